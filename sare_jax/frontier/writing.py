"""Frontiers of some workdirs as JSON, Markdown, CSV and drawings."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sare_jax import files
from sare_jax.evaluation import bootstrap
from sare_jax.frontier.analysis import CAPTIONS, FOUND, HALLUCINATED, TRUE, Run, analyse
from sare_jax.frontier.read import read_points
from sare_jax.report.frontier_figures import frontiers
from sare_jax.report.frontiers import basis, excess_sentence, headline, sentences, tables
from sare_jax.report.svg import standing_alone
from sare_jax.report.tables import inert, table_markdown

NAMES = ("frontier.json", "frontier.md", "frontier.csv", "frontier_after.svg", "frontier_before.svg")
"""Names of the files that `write` makes."""


def frontier(
    workdirs: Sequence[Path],
    methods: Mapping[str, str],
    attack: str,
    recalls: Sequence[float],
    reference: str,
    *,
    draws: int = bootstrap.DRAWS,
) -> dict[str, Any]:
    """Reads and analyses the runs of some workdirs.

    Args:
      workdirs: outcomes of one config, each with a base model of its own; they are pooled.
      methods: method → dotted key of its weight among its runs' settings.
      attack: name of the attack, a key of `config.attacks`.
      recalls: recall before the attack, in percent, at which curves are read.
      reference: name of the method that the others are compared with.
      draws: how many times base models, seeds and images are resampled.

    Returns:
      JSON-able: what `analysis.analyse` returns, with labels, every run's numbers, and what is missing.

    Raises:
      UserError: the workdirs cannot be compared, or hold nothing measured; see `read.read_points`.
    """
    points = read_points(workdirs, methods, attack)
    analysis = analyse(points.runs, points.bases, recalls, reference, draws=draws)
    return {
        "attack": attack,
        "recalls": list(recalls),
        "reference": reference,
        "workdirs": sorted({run.sample[0] for run in points.runs}),
        "seeds": sorted({run.sample[1] for run in points.runs}),
        "images": points.images,
        "draws": draws,
        "labels": points.labels,
        "weights": points.weights,
        **analysis,
        "runs": [_plain(run) for run in points.runs],
        "missing": points.missing,
    }


def write(results: Mapping[str, Any], folder: Path, ours: str, equal_words: float) -> list[Path]:
    """Writes `frontier.json`, `.md`, `.csv` and two drawings.

    Args:
      results: what `frontier` returned.
      folder: folder for the files; made where it is missing.
      ours: name of the method that the Markdown compares with the reference first.
      equal_words: number of words by which mean caption lengths may differ; beyond it methods are called not
        comparable.

    Returns:
      Paths of the files, in the order of `NAMES`.
    """
    folder = Path(folder)
    files.write_json(folder / NAMES[0], dict(results))
    files.write_text(folder / NAMES[1], as_markdown(results, ours, equal_words))
    files.write_text(folder / NAMES[2], as_csv(results))
    for name, drawn in zip(NAMES[3:], frontiers(results).panels, strict=True):
        files.write_text(folder / name, standing_alone(drawn.svg, drawn.label))
    return [folder / name for name in NAMES]


def as_markdown(results: Mapping[str, Any], ours: str, equal_words: float) -> str:
    """The text of `frontier.md`: sentences and tables; arguments as of `write`."""
    first = headline(results, ours, results["reference"], equal_words)
    parts = ["# Frontiers"]
    if first:
        parts.append(f"**{first.text}**")
    if ours in results["methods"]:
        parts += [text for recall in results["recalls"] if (text := excess_sentence(results, ours, recall))]
    parts.append(f"From {basis(results)}.")
    parts.append("\n".join(f"- {item.text}" for item in sentences(results, ours)))
    parts += [table_markdown(table).rstrip() for table in tables(results)]
    return inert("\n\n".join(part for part in parts if part) + "\n")


def as_csv(results: Mapping[str, Any]) -> str:
    """The text of `frontier.csv`: a header, then one line a run."""
    text = io.StringIO()
    columns = ["workdir", "method", "run", "weight", "seed", "recall", "before", "after", "recall_after"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(results["runs"])
    return text.getvalue()


def _plain(run: Run) -> dict[str, Any]:
    before, after = run.before.sum(axis=0), run.after.sum(axis=0)
    return {
        "workdir": run.sample[0],
        "method": run.method,
        "run": run.name,
        "weight": run.weight,
        "seed": run.sample[1],
        "recall": 100 * before[FOUND] / before[TRUE],
        "before": 100 * before[HALLUCINATED] / before[CAPTIONS],
        "after": 100 * after[HALLUCINATED] / after[CAPTIONS],
        "recall_after": 100 * after[FOUND] / after[TRUE],
    }
