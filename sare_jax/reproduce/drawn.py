"""Fig. 1b, the relearning curve, and Figs. 1a, 6 and 7, captions before and after it."""

from collections.abc import Iterable
from html import escape

from sare_jax.report.figures import relearning
from sare_jax.report.gallery import Caption, image_uri, mark
from sare_jax.reproduce.experiment import Experiment, Made, Page, Raw, with_runs
from sare_jax.reproduce.main_results import methods_of

SHOWN = 4  # images


def _relearned(raw: Raw) -> Raw:
    attacks = {
        name: attack
        for name, attack in raw.get("attacks", {}).items()
        if attack.get("kind", "relearn") == "relearn"
    }
    return with_runs(raw, methods_of(raw), attacks)


def _fig1(made: Made) -> Page:
    group = relearning(made.inputs, made.spec)
    panels = group.panels if group else ()
    return Page(drawings={f"fig1_{place}": panel for place, panel in enumerate(panels)})


def _fig6(made: Made) -> Page:
    return Page(texts=tuple(_case(made, image_id) for image_id in chosen(made)))


def chosen(made: Made) -> list[int]:
    """The images to show: those where the attack changes the baseline's caption most.

    Most is by the number of invented object words that the attack adds to the baseline's caption; of equal
    ones the lower id comes first. The rule does not look at our method.
    """
    before, after = (_captions(made, made.spec.baseline, s) for s in ("origin", made.spec.headline_setting))
    added = {
        image_id: (after[image_id].hallucinated or 0) - (before[image_id].hallucinated or 0)
        for image_id in before.keys() & after.keys()
        if after[image_id].hallucinated is not None
    }
    return sorted(added, key=lambda image_id: (-added[image_id], image_id))[:SHOWN]


def _captions(made: Made, run: str, setting: str) -> dict[int, Caption]:
    truth = made.context.truth
    return {
        record["image_id"]: mark(record, tuple(sorted(truth.categories(record["image_id"]))))
        for record in made.inputs.answers.get((run, setting), [])
    }


def _case(made: Made, image_id: int) -> str:
    """One image with its captions, as HTML."""
    records = made.inputs.answers.get((made.spec.baseline, "origin"), [])
    name = next(record["image"] for record in records if record["image_id"] == image_id)
    present = ", ".join(sorted(made.context.truth.categories(image_id)))
    source = image_uri(made.context.images, name, made.spec.max_pixels)
    parts = [
        f'<section><img src="{source}" alt="test image {image_id}">'
        f"<p>Image {image_id}. In the picture: {escape(present)}.</p>"
    ]
    for run in made.spec.runs:
        for setting in ("origin", made.spec.headline_setting):
            caption = _captions(made, run.key, setting).get(image_id)
            if caption:
                heading = f"{run.label}, {'before' if setting == 'origin' else 'after'} the attack"
                parts.append(f"<h4>{escape(heading)}</h4><p>{_marked(caption.pieces)}</p>")
    return "".join(parts) + "</section>"


def _marked(pieces: Iterable) -> str:
    return "".join(
        f"<mark>{escape(piece.text)}</mark>" if piece.kind == "hallucinated" else escape(piece.text)
        for piece in pieces
    )


FIG1 = Experiment("hallucination against the number of relearning samples", _relearned, _fig1)
FIG6 = Experiment("captions before and after relearning, the baseline's worst", _relearned, _fig6)
