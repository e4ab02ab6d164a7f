"""Command line: `python -m sare_jax.frontier WORKDIR…` draws methods as curves over their weight."""

import argparse
from pathlib import Path

from sare_jax.command import called
from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap, console
from sare_jax.frontier.writing import as_markdown, frontier, write
from sare_jax.locks import writing_into
from sare_jax.settings.report import FrontierConfig, ReportConfig
from sare_jax.settings.saved import read_saved


def main(argv: list[str] | None = None) -> None:
    """Reads methods, attack and recalls from the first workdir's settings; the options take precedence."""
    parser = argparse.ArgumentParser(
        prog=called("python -m sare_jax.frontier"),
        description="CHAIR_S before and after an attack against recall before it, each method a curve over "
        "its weight; several workdirs are other base models under the same config and are pooled",
    )
    parser.add_argument("workdirs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="NAME=KEY",
        help="runs named NAME or NAME_…, and the setting that is their weight, e.g. efuf=neg_weight",
    )
    parser.add_argument("--attack", default="", help="name of the attack; that of the report")
    parser.add_argument("--recalls", default="", help="recall before the attack, in percent, e.g. 90,93")
    parser.add_argument("--reference", default="", help="method that the others are held against")
    parser.add_argument("--ours", default="", help="method that the text speaks of first")
    parser.add_argument("--draws", type=console.draws, default=bootstrap.DRAWS, help="bootstrap resamples")
    parser.add_argument("--out", type=Path, help="folder for the files; the first workdir by default")
    options = parser.parse_args(argv)
    path = options.workdirs[0] / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: not there; give the workdir of a finished run")
    report = read_saved(path).get("report", {})
    stated = report.get("frontier", {})
    settings = FrontierConfig(
        dict(_method(text) for text in options.method) or stated.get("methods", {}),
        options.recalls or stated.get("recalls", FrontierConfig.recalls),
    )
    settings.check("--")
    if not settings.methods:
        raise UserError(
            f"{path}: no config.report.frontier.methods; name methods with --method efuf=neg_weight"
        )
    ours = options.ours or report.get("ours", "")
    results = frontier(
        options.workdirs,
        settings.methods,
        options.attack or report.get("matched_attack", "relearn_140"),
        settings.levels,
        options.reference or report.get("baseline", "efuf"),
        draws=options.draws,
    )
    equal_words = report.get("equal_words", ReportConfig.equal_words)
    folder = options.out or options.workdirs[0]
    with writing_into(folder):
        written = write(results, folder, ours, equal_words)
    print(as_markdown(results, ours, equal_words))
    print("written: " + ", ".join(map(str, written)))


def _method(text: str) -> tuple[str, str]:
    name, sign, key = text.partition("=")
    if not (name and sign and key):
        raise UserError(f"--method {text}: expected NAME=KEY, for example efuf=neg_weight")
    return name, key
