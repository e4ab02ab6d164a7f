import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.human import command as human
from sare_jax.evaluation.metrics import perplexity
from sare_jax.evaluation.metrics.chair import CHAIR_S
from sare_jax.report import ReportSpec
from sare_jax.report.measures import columns_in, value

HUMAN, (PERPLEXITY,) = human.HUMAN_S, perplexity.METRIC.columns


def result(**chair):
    return {"chair": chair, "human": "not measured", "perplexity": "not measured: no language model given"}


def test_number_with_interval():
    found = value(result(chair_s=41.5, intervals={"chair_s": [38, 45.25]}), CHAIR_S)
    assert (found.number, found.interval) == (41.5, (38, 45.25))


def test_setting_that_was_not_run():
    assert value(None, CHAIR_S).reason == "not run"


def test_reason_in_words_is_kept_and_never_filled():
    assert value(result(), HUMAN).reason == "not measured"
    assert value(result(), PERPLEXITY).number is None  # its section is a reason, not numbers
    assert value({}, CHAIR_S).reason == "not measured"


def test_nan_is_no_number():
    assert value(result(chair_s=float("nan")), CHAIR_S).number is None


@pytest.mark.parametrize("wrong", ["41.5", [41.5], True])
def test_other_types_are_refused_with_file_and_key(wrong):
    with pytest.raises(UserError, match=r"^metrics/sare/origin\.json: chair\.chair_s should be a number"):
        value(result(chair_s=wrong), CHAIR_S, "metrics/sare/origin.json")


@pytest.mark.parametrize("wrong", [[1.0], "1-2", [1.0, None]])
def test_broken_interval_is_refused(wrong):
    with pytest.raises(UserError, match=r"chair\.intervals\.chair_s should be \[low, high\]"):
        value(result(chair_s=2.0, intervals={"chair_s": wrong}), CHAIR_S)


def test_every_measure_of_table_1_is_found_in_real_results(inputs):
    one = inputs.result("sare", "origin")
    missing = [m.key for m in columns_in(ReportSpec()) if value(one, m).number is None]
    assert missing == ["human_s", "human_i", "informativeness"]
    present = [m for m in columns_in(ReportSpec()) if m.key not in missing]
    without_interval = [m.key for m in present if value(one, m).interval is None]
    assert without_interval == ["n"]
