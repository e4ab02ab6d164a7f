"""Fig. 1b, the relearning curve, and Figs. 1a, 6 and 7, captions before and after it."""

from sare_jax.report.figures import relearning
from sare_jax.report.gallery import exhibits_of
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
    return Page(figures=relearning(made.inputs, made.spec))


def _fig6(made: Made) -> Page:
    context = made.context
    return Page(
        exhibits=tuple(exhibits_of(chosen(made), made.inputs, made.spec, context.truth, context.images))
    )


def chosen(made: Made) -> list[int]:
    """The images to show: those where the attack changes the baseline's caption most.

    Most is by the number of invented object words that the attack adds to the baseline's caption; of equal
    ones the lower id comes first. The rule does not look at our method.
    """
    baseline, attacked = made.spec.baseline, made.spec.headline_setting
    records = [made.inputs.answers.get((baseline, setting), []) for setting in ("origin", attacked)]
    images = set.intersection(*({record["image_id"] for record in each} for each in records))
    shown = exhibits_of(sorted(images), made.inputs, made.spec, made.context.truth, None)
    added = {}
    for exhibit in shown:
        before, after = (exhibit.rows[baseline][setting].hallucinated for setting in ("origin", attacked))
        if before is not None and after is not None:
            added[exhibit.image_id] = after - before
    return sorted(added, key=lambda image_id: (-added[image_id], image_id))[:SHOWN]


FIG1 = Experiment("hallucination against the number of relearning samples", _relearned, _fig1)
FIG6 = Experiment("captions before and after relearning, the baseline's worst", _relearned, _fig6)
