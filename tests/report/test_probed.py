"""Log-odds and displacement in the report."""

import numpy as np
import pytest

from sare_jax import files
from sare_jax.evaluation.separation import Choices, score
from sare_jax.report import ReportSpec
from sare_jax.report.attacked import NO_BASE
from sare_jax.report.probed import probes, taught_sentence
from sare_jax.report.read import read_probes

SPEC = ReportSpec()


def probe(shift, seed=0, images=40):
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), 10)
    present, named = np.tile(np.arange(10) < 3, images), np.tile(np.isin(np.arange(10), (0, 9)), images)
    noise = rng.normal(size=len(image)) + 0.3 * np.random.default_rng(round(100 * shift) % 97).normal(
        size=len(image)
    )
    values = noise + 2 * present + shift
    found = {"separation": score(range(images), Choices(image, values, present, named), draws=50)}
    return found | {"displacement": {"from_base": {"l2": 0.33, "largest": 0.002, "share": 0.01}}}


def made(base=0.8, run=0.4):
    """The attack adds so many nats to the base model and to SARE."""
    found = {("base", "origin"): probe(0.0), ("base", "relearn_140"): probe(base)}
    found |= {("sare", "origin"): probe(-1.2), ("sare", "relearn_140"): probe(run - 1.2)}
    found["sare", "relearn_140"]["displacement"]["by_attack"] = {"l2": 0.136, "largest": 1.8e-3, "share": 0.0}
    return found


def cells(table, run, setting):
    group = next(group for group in table.groups if group.key == run)
    row = next(row for row in group.rows if row.key == setting)
    return dict(zip([column.key for column in table.columns], row.cells, strict=True))


def test_numbers_are_those_of_the_probes():
    found = made()
    row = cells(probes(found, SPEC), "sare", "relearn_140")
    before, after = (found["sare", key]["separation"] for key in ("origin", "relearn_140"))
    assert row["auc"].value == after["auc"]
    assert row["invented"].value == after["invented"]
    assert row["taught"].value == pytest.approx(after["invented"] - before["invented"])
    by_base = (
        found["base", "relearn_140"]["separation"]["invented"]
        - found["base", "origin"]["separation"]["invented"]
    )
    assert row["excess"].value == pytest.approx(row["taught"].value - by_base)
    assert (row["l2"].text, row["largest"].text) == ("0.136", "1.8e−03")
    assert cells(probes(found, SPEC), "sare", "origin")["l2"].text == "0.330"


@pytest.mark.parametrize(
    ("base", "run", "told"),
    [(0.8, 0.2, "less than"), (0.2, 0.9, "more than"), (0.5, 0.5, "not told apart from")],
)
def test_sentences_go_either_way(base, run, told):
    text = taught_sentence(made(base, run), SPEC, "sare", "relearn_140")
    assert f"nats to SARE, {told} the +" in text


def test_what_was_not_probed_is_not_told():
    found = {key: value for key, value in made().items() if key != ("base", "relearn_140")}
    assert taught_sentence(found, SPEC, "sare", "relearn_140") == ""
    assert cells(probes(found, SPEC), "sare", "relearn_140")["excess"].text == NO_BASE
    assert probes({}, SPEC) is None


def test_probes_are_read_by_run_and_setting(tmp_path):
    files.write_json(tmp_path / "probes" / "sare" / "relearn_140.json", probe(0.0))
    assert list(read_probes(tmp_path, SPEC)) == [("sare", "relearn_140")]


def test_an_excess_that_rounds_to_nothing_is_none():
    found = made(0.5, 0.5)
    for key in ("origin", "relearn_140"):  # the same on every image but for a thousandth
        values = dict(found["base", key]["separation"]["per_image"])
        if key == "relearn_140":
            log_odds = [x + 0.001 for x in values["invented_log_odds"]]
            values["invented_log_odds"] = log_odds
        found["sare", key]["separation"] = {**found["base", key]["separation"], "per_image": values}
    assert "not told apart from" in taught_sentence(found, SPEC, "sare", "relearn_140")
    assert not cells(probes(found, SPEC), "sare", "relearn_140")["excess"].best
