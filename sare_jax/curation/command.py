"""Curates without the rest of the project: `python -m sare_jax.curation --captions … --images … --out …`.

Other commands: `calibrate` chooses thresholds by labelled objects, `histogram` draws the scores of grounded
and of hallucinated objects, `import-efuf` and `export-efuf` read and write EFUF's training files.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sare_jax.curation import calibrate, histogram, options
from sare_jax.curation.calibrate import Audit
from sare_jax.curation.clip import Clip
from sare_jax.curation.efuf_files import read_efuf, write_efuf
from sare_jax.curation.recipe import Recipe, recipe_of
from sare_jax.curation.select import PAPER, by_numbers
from sare_jax.curation.stage import Evidence, curate, gather, look
from sare_jax.curation.summary import summary
from sare_jax.curation.truth import Marks, Truth
from sare_jax.errors import UserError
from sare_jax.locks import writing_into
from sare_jax.records.curated import write_curated
from sare_jax.settings import FixedThresholds

_PROGRAM = "python -m sare_jax.curation"
_NOT_SCORING = ("rule", "conflicts", "efuf", "folder")  # settings that move no score


def main(arguments: Sequence[str]) -> None:
    """Runs the command that the first word names; without one it curates."""
    commands = {
        "curate": _curate,
        "calibrate": _calibrate,
        "histogram": _histogram,
        "import-efuf": _import,
        "export-efuf": _export,
    }
    name, rest = "curate", list(arguments)
    if rest and rest[0] in commands:
        name, *rest = rest
    commands[name](rest)


def _curate(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Curates D_neg, D_pos and D_sent from captions and their images.",
        epilog="Other commands, each with --help: calibrate, histogram, import-efuf, export-efuf.",
    )
    options.add_data(parser)
    options.add_settings(parser, without=("efuf", "folder"))
    given = parser.parse_args(arguments)
    settings, truth = options.settings_of(given), options.truth_of(given)
    recipe = recipe_of(settings, truth, given.max_pixels)
    with writing_into(given.out):
        manifest = curate(options.captions_of(given), given.images, given.out, recipe, truth=truth)
    print(summary(manifest))


def _calibrate(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} calibrate",
        description="Chooses thresholds by labelled objects, for a wanted precision of each set.",
    )
    options.add_data(parser)
    options.add_settings(parser, without=_NOT_SCORING, kinds=("audit",))
    given = parser.parse_args(arguments)
    settings = options.settings_of(given, {"thresholds": {"kind": "audit"}})
    recipe = recipe_of(settings, options.truth_of(given), given.max_pixels)
    assert isinstance(recipe.thresholds, Audit)
    evidence, clip_id = _gather(given, recipe, recipe.thresholds.truth)
    limits = recipe.thresholds.thresholds(evidence.kept, clip_id)
    print(f"{limits.chosen['how']}, CLIP model {clip_id}")
    print("\n".join(calibrate.told(limits)))
    print(" ".join(f"--thresholds.{name}={getattr(limits, name):.4f}" for name in ("t0", "t1", "t2")))


def _histogram(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} histogram",
        description="Draws the scores of objects that are in their image and of objects that are not.",
    )
    options.add_data(parser)
    options.add_settings(parser, without=_NOT_SCORING)
    parser.add_argument(
        "--figure", type=Path, required=True, help=f"file to write: {', '.join(histogram.FORMATS)}"
    )
    given = parser.parse_args(arguments)
    settings, truth = options.settings_of(given), options.truth_of(given)
    if truth is None:
        raise UserError("--truth or --labels is missing; a histogram needs to know what is in the images")
    recipe = recipe_of(settings, truth, given.max_pixels)
    evidence, clip_id = _gather(given, recipe, truth)
    scores, present = histogram.judged_scores(evidence.kept, truth)
    limits = calibrate.chosen(recipe.thresholds, evidence.kept, clip_id)
    lines = {"T1": limits.t1, "T0": limits.t0} if limits is not PAPER or clip_id == PAPER.model else {}
    histogram.draw(scores, present, given.figure, model=clip_id, limits=lines)
    print(histogram.described(scores, present))
    print(f"figure in {given.figure}")


def _import(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} import-efuf", description="Makes a curated folder of EFUF's two training files."
    )
    start = {"rule": "efuf"}
    parser.add_argument("--efuf", type=Path, required=True, help="folder of pos_neg.json and sentences.json")
    parser.add_argument("--out", type=Path, required=True, help="curated folder to write")
    options.add_settings(parser, only=("rule", "thresholds"), kinds=("fixed",), start=start)
    given = parser.parse_args(arguments)
    settings = options.settings_of(argparse.Namespace(**vars(given) | {"efuf": str(given.efuf)}), start)
    assert isinstance(settings.thresholds, FixedThresholds)
    curated = read_efuf(given.efuf, thresholds=by_numbers(settings.thresholds), rule=settings.rule)
    with writing_into(given.out):
        write_curated(given.out, curated)
    print(summary(curated.manifest))


def _export(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"{_PROGRAM} export-efuf", description="Writes a curated folder as EFUF's two training files."
    )
    parser.add_argument("--curated", type=Path, required=True, help="curated folder to read")
    parser.add_argument("--efuf", type=Path, required=True, help="folder to write the two files into")
    given = parser.parse_args(arguments)
    with writing_into(given.efuf):
        sizes = write_efuf(given.curated, given.efuf)
    print(", ".join(f"{name}: {rows} rows" for name, rows in sizes.items()) + f" in {given.efuf}")


def _gather(given: argparse.Namespace, recipe: Recipe, truth: Truth | Marks) -> tuple[Evidence, str]:
    """Scores the captions, or takes the scores that are kept; and the id of the CLIP model."""
    captions = options.captions_of(given)
    listed = look(captions, given.images, bad_images=recipe.bad_images, truth=truth)
    model = Clip(recipe.clip)
    with writing_into(given.out):
        return gather(listed, given.out, model, recipe), model.id
