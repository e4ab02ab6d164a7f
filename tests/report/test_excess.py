"""What attacks give back, beside what they teach the base model."""

import copy

import pytest

from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.metrics import chair
from sare_jax.report import ReportSpec
from sare_jax.report.attacked import NO_BASE, attacks, with_excess
from sare_jax.report.details import summary
from sare_jax.report.excess import given_back
from sare_jax.report.read import read
from sare_jax.report.tables import result_tables
from tests.report.workdirs import make_workdir

SPEC = ReportSpec()


def counts(inputs, run, setting):
    table = inputs.result(run, setting)["chair"]["per_image"]
    return [list(row) for row in zip(*(table[name] for name in chair.COLUMNS), strict=True)]


def cells(table, run, setting):
    group = next(group for group in table.groups if group.key == run)
    row = next(row for row in group.rows if row.key == setting)
    return dict(zip([column.key for column in table.columns], row.cells, strict=True))


def without_base(inputs):
    """The inputs as though the base model had not been relearned."""
    metrics = {key: row for key, row in inputs.metrics.items() if key != ("base", "relearn_140")}
    return type(inputs)(**{**vars(inputs), "metrics": metrics, "cache": {}})


def test_excess_is_the_bootstrap_of_the_four_rows(inputs):
    found = given_back(inputs, SPEC, "efuf", "relearn_140")
    rows = [counts(inputs, run, s) for run in ("efuf", "base") for s in ("origin", "relearn_140")]
    expected = bootstrap.contrast(rows, (-1, 1, 1, -1), chair.METRICS["chair_s"], draws=200)
    assert found.excess == pytest.approx(expected["difference"])
    assert found.interval == pytest.approx(expected["interval"])
    assert found.excess == pytest.approx(found.amount - found.by_base)


@pytest.mark.parametrize(("run", "verdict"), [("unlikelihood", "none"), ("efuf", "none"), ("sare", "none")])
def test_small_differences_have_no_verdict(inputs, run, verdict):
    """Where the paired interval holds 0 nothing is said of either side."""
    found = given_back(inputs, SPEC, run, "relearn_140")
    assert (found.verdict == verdict) == (found.interval[0] <= 0 <= found.interval[1])


def changed(inputs, run, setting, invented):
    """The inputs with a row in which the first so many captions hold an invented object."""
    metrics = copy.deepcopy(inputs.metrics)
    row = metrics[run, setting]["chair"]
    n = row["n"]
    row["per_image"]["hallucinated"] = [1] * invented + [0] * (n - invented)
    row["chair_s"] = 100 * invented / n
    return type(inputs)(**{**vars(inputs), "metrics": metrics, "cache": {}})


def test_verdicts_go_both_ways(inputs):
    much = inputs
    for run, setting, invented in (
        ("base", "origin", 30),
        ("base", "relearn_140", 32),
        ("sare", "origin", 2),
        ("sare", "relearn_140", 40),
        ("efuf", "origin", 40),
        ("efuf", "relearn_140", 12),
    ):
        much = changed(much, run, setting, invented)
    assert given_back(much, SPEC, "sare", "relearn_140").verdict == "more"
    assert given_back(much, SPEC, "efuf", "relearn_140").verdict == "less"


def test_without_the_base_the_reader_is_told_how_to_get_it(inputs):
    lacking = without_base(inputs)
    found = given_back(lacking, SPEC, "efuf", "relearn_140")
    assert (found.by_base, found.excess) == (None, None)
    table = attacks(lacking, SPEC)
    assert cells(table, "efuf", "relearn_140")["excess"].text == NO_BASE
    assert "config.attacks.relearn_140.runs" in table.notes[-1]
    assert not any("was not attacked" in note for note in attacks(inputs, SPEC).notes)


def test_every_attack_of_every_run_has_a_row(inputs):
    table = attacks(inputs, SPEC)
    rows = [(group.key, row.key) for group in table.groups for row in group.rows]
    assert sorted(rows) == sorted(key for key in inputs.metrics if key[1] != "origin")
    base = cells(table, "base", "relearn_140")
    assert (base["by_base"].text, base["excess"].text) == ("–", "–")


def test_the_floor_stands_below_the_runs_with_an_excess_of_its_own(tmp_path):
    rates = {("base", "origin"): 0.62, ("base", "relearn_140"): 0.78, ("sare", "origin"): 0.24}
    workdir = make_workdir(tmp_path / "runs", rates=rates | {("sare", "relearn_140"): 0.5})
    floor = {("base", "origin"): 0.02, ("base", "relearn_140"): 0.1}
    spec = ReportSpec(floor=str(make_workdir(tmp_path / "floor", rates=floor)))
    inputs = read(workdir, spec)
    table = attacks(inputs, spec)
    assert [group.key for group in table.groups] == ["base", "sare", "floor"]
    row = cells(table, "floor", "relearn_140")
    own = read(tmp_path / "floor", ReportSpec())
    assert row["after"].value == own.result("base", "relearn_140")["chair"]["chair_s"]
    assert row["excess"].value == pytest.approx(
        given_back(own, ReportSpec(), "base", "relearn_140").amount - row["by_base"].value
    )
    assert any("never named" in note for note in table.notes)
    assert not any("never named" in note for note in attacks(read(workdir, SPEC), SPEC).notes)
    gone = read(workdir, ReportSpec(floor=str(tmp_path / "nowhere")))
    assert any("the floor's workdir" in text for text in gone.missing)


def test_tables_agree_on_the_excess(inputs):
    expected = given_back(inputs, SPEC, "sare", "relearn_140").excess
    results = with_excess(result_tables(inputs, SPEC)[0], inputs, SPEC)
    assert cells(results, "sare", "relearn_140")["excess"].value == expected
    assert cells(results, "sare", "origin")["excess"].text == "–"
    assert cells(attacks(inputs, SPEC), "sare", "relearn_140")["excess"].value == expected
    assert cells(summary(inputs, SPEC), "", "sare")["excess"].value == expected


def test_rows_without_counts_have_an_excess_without_interval(inputs):
    metrics = copy.deepcopy(inputs.metrics)
    del metrics["sare", "relearn_140"]["chair"]["per_image"]
    bare = type(inputs)(**{**vars(inputs), "metrics": metrics, "cache": {}})
    found = given_back(bare, SPEC, "sare", "relearn_140")
    assert found.excess is not None
    assert (found.interval, found.verdict) == (None, "unpaired")
