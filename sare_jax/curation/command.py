"""Curates without the rest of the project: `python -m sare_jax.curation --captions … --images … --out …`.

Other commands: `calibrate` chooses thresholds by labelled objects, `histogram` draws the scores of grounded
and of hallucinated objects, `import-efuf` and `export-efuf` read and write EFUF's training files.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sare_jax.command import called
from sare_jax.curation import histogram, inputs, options
from sare_jax.curation.efuf_files import read_efuf, write_efuf
from sare_jax.curation.select import by_numbers
from sare_jax.curation.summary import summary
from sare_jax.locks import writing_into
from sare_jax.records.curated import write_curated
from sare_jax.settings import FixedThresholds

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
        prog=_program(),
        description="Curates D_neg, D_pos and D_sent from captions and their images.",
        epilog="Other commands, each with --help: calibrate, histogram, import-efuf, export-efuf.",
    )
    options.add_data(parser)
    options.add_settings(parser, without=("efuf", "folder"))
    given = parser.parse_args(arguments)
    settings = options.settings_of(given)
    inputs.look(given, settings)
    from sare_jax.curation import running  # after the look: torch takes seconds to load

    running.sets(given, settings)


def _calibrate(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"{_program()} calibrate",
        description="Chooses thresholds by labelled objects, for a wanted precision of each set.",
    )
    options.add_data(parser)
    options.add_settings(parser, without=_NOT_SCORING, kinds=("audit",))
    given = parser.parse_args(arguments)
    settings = options.settings_of(given, {"thresholds": {"kind": "audit"}})
    inputs.look(given, settings)
    from sare_jax.curation import running

    running.thresholds(given, settings)


def _histogram(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"{_program()} histogram",
        description="Draws the scores of objects that are in their image and of objects that are not.",
    )
    options.add_data(parser)
    options.add_settings(parser, without=_NOT_SCORING)
    parser.add_argument(
        "--figure", type=Path, required=True, help=f"file to write: {', '.join(histogram.FORMATS)}"
    )
    given = parser.parse_args(arguments)
    settings = options.settings_of(given)
    inputs.look(given, settings)
    from sare_jax.curation import running

    running.figure(given, settings)


def _import(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog=f"{_program()} import-efuf", description="Makes a curated folder of EFUF's two training files."
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
        prog=f"{_program()} export-efuf", description="Writes a curated folder as EFUF's two training files."
    )
    parser.add_argument("--curated", type=Path, required=True, help="curated folder to read")
    parser.add_argument("--efuf", type=Path, required=True, help="folder to write the two files into")
    given = parser.parse_args(arguments)
    with writing_into(given.efuf):
        sizes = write_efuf(given.curated, given.efuf)
    print(", ".join(f"{name}: {rows} rows" for name, rows in sizes.items()) + f" in {given.efuf}")


def _program() -> str:
    return called("python -m sare_jax.curation")
