"""What comes back of categories that an attack did not teach, and the control against masking."""

import copy

import pytest

from sare_jax.evaluation import bootstrap
from sare_jax.report import ReportSpec
from sare_jax.report.attacked import NO_BASE
from sare_jax.report.disjoint import disjoint, disjoint_finding
from sare_jax.report.masked import masking
from sare_jax.report.spec import SettingSpec

SPEC = ReportSpec(settings=(*ReportSpec().settings, SettingSpec("one", "one"), SettingSpec("two", "two")))
HALVES = {"one": (["dog"], ["cat"]), "two": (["cat"], ["dog"])}  # taught, held out


def made(inputs, cats, dogs):
    """Rows in which so many captions invent a cat or a dog: run → before, after `one`, after `two`."""
    metrics, attacks = copy.deepcopy(inputs.metrics), {}
    for run in cats:
        for place, setting in enumerate(("origin", "one", "two")):
            row = copy.deepcopy(inputs.result(run, "origin"))
            n = row["chair"]["n"]
            row["chair"]["per_image"]["invented"] = [
                ["cat"] * (at < cats[run][place]) + ["dog"] * (n - at <= dogs[run][place]) for at in range(n)
            ]
            metrics[run, setting] = row
            if setting in HALVES:
                taught, held_out = HALVES[setting]
                attacks[run, setting] = {"taught": taught, "held_out": held_out}
    return type(inputs)(**{**vars(inputs), "metrics": metrics, "attacks": attacks, "cache": {}})


CATS = {"base": (24, 27, 33), "efuf": (6, 24, 30), "sare": (6, 7, 9)}
DOGS = {"base": (12, 18, 15), "efuf": (3, 12, 9), "sare": (3, 6, 3)}


def cells(table, run, setting):
    group = next(group for group in table.groups if group.key == run)
    row = next(row for row in group.rows if row.key == setting)
    return dict(zip([column.key for column in table.columns], row.cells, strict=True))


def test_halves_are_counted_apart(inputs):
    table = disjoint(made(inputs, CATS, DOGS), SPEC)
    row = cells(table, "efuf", "one")
    values = {key: cell.value for key, cell in row.items()}
    assert values["held_out_before"] == pytest.approx(10)
    assert values["held_out_after"] == pytest.approx(40)
    assert values["held_out"] == pytest.approx(30)
    assert values["by_base"] == pytest.approx(5)
    assert values["excess"] == pytest.approx(25)
    assert (values["taught_before"], values["taught_after"]) == (pytest.approx(5), pytest.approx(20))
    assert cells(table, "base", "one")["excess"].text == "–"


def test_several_halves_have_a_mean_with_a_paired_interval(inputs):
    table = disjoint(made(inputs, CATS, DOGS), SPEC)
    one, two, mean = (cells(table, "efuf", key) for key in ("one", "two", "mean"))
    for key in ("held_out_before", "held_out", "excess"):
        assert mean[key].value == pytest.approx((one[key].value + two[key].value) / 2), key
    low, high = mean["excess"].interval
    assert low < mean["excess"].value < high


def test_the_finding_goes_either_way(inputs):
    found = disjoint_finding(made(inputs, CATS, DOGS), SPEC)
    assert found.verdict == "better"
    assert "less comes back in SARE than in EFUF" in found.claim
    turn = {"base": "base", "efuf": "sare", "sare": "efuf"}
    turned = ({turn[run]: counts for run, counts in both.items()} for both in (CATS, DOGS))
    found = disjoint_finding(made(inputs, *turned), SPEC)
    assert found.verdict == "worse"
    assert "more comes back in SARE than in EFUF" in found.claim
    alike = ({**both, "sare": both["efuf"]} for both in (CATS, DOGS))
    assert disjoint_finding(made(inputs, *alike), SPEC).verdict == "none"


def test_without_the_attack_there_is_no_section(inputs):
    assert disjoint(inputs, SPEC) is None
    assert disjoint_finding(inputs, SPEC) is None
    some = made(inputs, {"efuf": CATS["efuf"]}, DOGS)
    assert cells(disjoint(some, SPEC), "efuf", "one")["excess"].text == NO_BASE
    assert disjoint_finding(some, SPEC) is None


def test_interval_is_the_bootstrap_of_the_two_rows(inputs):
    row = cells(disjoint(made(inputs, CATS, DOGS), SPEC), "efuf", "one")
    n = inputs.result("efuf", "origin")["chair"]["n"]
    before, after = ([[1, int(at < count)] for at in range(n)] for count in (6, 24))
    expected = bootstrap.difference(before, after, bootstrap.ratio(1, 0), draws=200)
    assert row["held_out"].interval == pytest.approx(expected["interval"])


def test_masking_is_held_against_the_base(inputs):
    def speed(gained):
        return {"steps": 60, "before": 4.0, "after": 4.0 - gained, "gained": gained}

    table = masking(
        type(inputs)(**{**vars(inputs), "masking": {"base": speed(2.0), "sare": speed(1.0)}}), SPEC
    )
    shown = {row.key: [cell.text for cell in row.cells] for row in table.groups[0].rows}
    assert shown == {"base": ["4.00", "2.00", "2.00", "100 %"], "sare": ["4.00", "3.00", "1.00", "50 %"]}
    assert masking(inputs, SPEC) is None
