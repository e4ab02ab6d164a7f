import copy
import dataclasses
import re
import shutil

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.metrics import chair
from sare_jax.evaluation.metrics.chair import CHAIR_S, RECALL
from sare_jax.evaluation.metrics.pope import F1
from sare_jax.report import ReportSpec
from sare_jax.report.contrasts import contrast, restored
from sare_jax.report.findings import findings
from sare_jax.report.headline import headline, qualification
from sare_jax.report.read import read
from tests.report.workdirs import RATES, make_workdir, swapped

SPEC = ReportSpec()


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """The same run with EFUF and SARE in each other's place."""
    rates = {key: rate for key, rate in swapped().items() if key[0] in ("efuf", "sare")}
    return make_workdir(tmp_path_factory.mktemp("turned"), rates=rates)


@pytest.fixture(scope="module")
def alike(workdir, tmp_path_factory):
    """SARE answers as EFUF does."""
    folder = shutil.copytree(workdir, tmp_path_factory.mktemp("alike") / "run")
    for setting in ("origin", "relearn_140", "adversarial"):
        same = (folder / "metrics" / "efuf" / f"{setting}.json").read_text()
        (folder / "metrics" / "sare" / f"{setting}.json").write_text(same)
    return folder


def test_better_is_said(inputs):
    found = headline(inputs, SPEC)
    assert found.verdict == "better"
    assert found.claim == "After relearning with 140 samples, SARE hallucinates in fewer captions than EFUF"
    assert "paired 95 % interval −" in found.numbers


def test_worse_is_said_as_plainly(turned):
    found = headline(read(turned, SPEC), SPEC)
    assert found.verdict == "worse"
    assert found.claim == "After relearning with 140 samples, SARE hallucinates in more captions than EFUF"


def test_a_null_result_is_said(alike):
    found = headline(read(alike, SPEC), SPEC)
    assert found.verdict == "none"
    assert found.claim.endswith("no difference between SARE and EFUF can be told")
    assert "difference 0.0 (paired 95 % interval 0.0–0.0; 0 of 60 images differ)" in found.numbers


def test_an_open_question_is_left_open(bare):
    found = headline(read(bare, SPEC), SPEC)
    assert (found.verdict, found.numbers) == ("open", "")
    assert "SARE and EFUF were not both measured" in found.claim


def test_paired_interval_is_the_bootstrap_of_the_counts(inputs):
    found = contrast(inputs, SPEC, "sare", "efuf", "relearn_140", CHAIR_S)
    sides = []
    for run in ("efuf", "sare"):
        table = inputs.result(run, "relearn_140")["chair"]["per_image"]
        sides.append([list(row) for row in zip(*(table[name] for name in chair.COLUMNS), strict=True)])
    expected = bootstrap.difference(*sides, chair.METRICS["chair_s"], draws=200)
    assert found.difference == pytest.approx(expected["difference"])
    assert found.interval == pytest.approx(expected["interval"])


def test_pope_is_paired_too(inputs):
    found = contrast(inputs, SPEC, "sare", "base", "origin", F1)
    assert found.interval[0] <= found.difference <= found.interval[1]


def test_contrast_turns_with_its_sides(inputs):
    there = contrast(inputs, SPEC, "sare", "efuf", "relearn_140", CHAIR_S)
    back = contrast(inputs, SPEC, "efuf", "sare", "relearn_140", CHAIR_S)
    assert there.difference == -back.difference
    assert {there.verdict, back.verdict} == {"better", "worse"}


def strip(inputs, *keys):
    """The inputs without the counts by image, and without further keys of the CHAIR results."""
    metrics = copy.deepcopy(inputs.metrics)
    for result in metrics.values():
        for key in ("per_image", *keys):
            result["chair"].pop(key)
    return type(inputs)(**{**vars(inputs), "metrics": metrics, "cache": {}})


def test_without_counts_the_intervals_are_held_against_each_other(inputs):
    found = headline(strip(inputs), SPEC)
    a, b = (inputs.result(run, "relearn_140")["chair"]["intervals"]["chair_s"] for run in ("sare", "efuf"))
    apart = a[1] < b[0]
    assert found.verdict == ("better" if apart else "none")
    assert f"their 95 % intervals {'do not overlap' if apart else 'overlap'}; not paired" in found.numbers


def test_without_intervals_nothing_is_claimed(inputs):
    found = headline(strip(inputs, "intervals"), SPEC)
    assert found.verdict == "none"
    assert "(no intervals were computed)" in found.numbers


def test_rows_measured_by_other_rules_are_not_compared(inputs):
    inputs.result("sare", "relearn_140")["chair"]["rule"] = "another rule"
    with pytest.raises(UserError, match=r"metrics/sare/relearn_140\.json: .*measured differently"):
        contrast(inputs, SPEC, "sare", "efuf", "relearn_140", CHAIR_S)


def set_chair(inputs, run, setting, number):
    inputs.result(run, setting)["chair"]["chair_s"] = number


def test_restored_share(inputs):
    for run, setting, number in (
        ("base", "origin", 60.0),
        ("sare", "origin", 20.0),
        ("sare", "relearn_140", 50.0),
        ("efuf", "origin", 60.0),
    ):
        set_chair(inputs, run, setting, number)
    assert restored(inputs, SPEC, "sare", "relearn_140") == pytest.approx(0.75)
    assert restored(inputs, SPEC, "efuf", "relearn_140") is None  # nothing was erased


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (55.0, "gives back 88 % of what EFUF had erased, at least the half"),
        (25.0, "gives back 12 % of what EFUF had erased, less than the half that was asked of it"),
        (15.0, "gives back nothing of what EFUF had erased, so it tests robustness only weakly"),
    ],
)
def test_strength_of_the_attack(inputs, after, words):
    set_chair(inputs, "base", "origin", 60.0)
    set_chair(inputs, "efuf", "origin", 20.0)
    set_chair(inputs, "efuf", "relearn_140", after)
    assert any(words in found.text for found in findings(strip(inputs), SPEC))


def test_an_erasure_that_erased_nothing_is_named(inputs):
    set_chair(inputs, "efuf", "origin", 99.0)
    assert "EFUF erased nothing" in findings(strip(inputs), SPEC)[0].text


def test_lost_grounding_is_named_by_run(inputs):
    result = inputs.result("sare", "origin")["chair"]
    result["recall"], result["intervals"]["recall"] = 50.0, [45.0, 55.0]
    text = findings(strip(inputs), SPEC)[-1].text
    assert text.startswith("Before any attack, unlearning cost grounding: SARE recall 50.0 (base ")


def test_every_sentence_says_how_many_images_it_rests_on(inputs):
    sentences = [found.text for found in findings(inputs, SPEC)]
    assert len(sentences) >= 3
    for text in sentences:
        assert re.search(r"\b[1-9]\d* (images|captions)\b", text), text


def set_before(inputs, run, **values):
    """The inputs with other numbers of a run before the attack."""
    changed = strip(inputs)
    changed.result(run, "origin")["chair"] |= values
    return changed


def test_a_run_is_not_held_against_itself(inputs):
    alone = dataclasses.replace(SPEC, baseline=SPEC.ours)
    assert headline(inputs, alone).claim == "SARE is held against no other run, so nothing is compared"
    told = qualification(inputs, alone)
    assert told.count("points of CHAIR_S to SARE") == 1
    assert "and SARE" not in told


def test_headline_says_before_and_after_and_at_which_recall(inputs):
    numbers = headline(inputs, SPEC).numbers
    for run in ("sare", "efuf"):
        before = inputs.result(run, "origin")["chair"]
        assert f"{before['chair_s']:.1f} at recall {before['recall']:.1f}" in numbers
    ours, other = (inputs.result(run, "relearn_140")["chair"]["chair_s"] for run in ("sare", "efuf"))
    assert numbers.startswith(f"CHAIR_S {ours:.1f} against {other:.1f}")


@pytest.mark.parametrize(
    ("key", "gap", "comparable"),
    [("recall", 0.9, True), ("recall", -1.2, False), ("mean_words", 0.8, True), ("mean_words", -3.0, False)],
)
def test_runs_of_other_recall_or_length_are_not_comparable(inputs, key, gap, comparable):
    there = inputs.result("efuf", "origin")["chair"][key]
    found = headline(set_before(inputs, "sare", **{key: there + gap}), SPEC)
    said = "SARE and EFUF are not comparable: before the attack they are "
    assert found.claim.startswith(said) != comparable
    assert (found.verdict == "open") != comparable
    assert f"{abs(gap):.1f}" in found.claim or comparable


def test_bounds_are_the_specs(inputs):
    there = inputs.result("efuf", "origin")["chair"]["recall"]
    spec = dataclasses.replace(SPEC, equal_recall=3.0)
    inputs = set_before(inputs, "sare", recall=there + 2.5)
    assert headline(inputs, SPEC).verdict == "open"
    assert headline(inputs, spec).verdict != "open"
    assert "equal within 3.0 points" in qualification(inputs, spec)
    assert "not equal within 1.0 points" in qualification(inputs, SPEC)


def attacked(inputs, before, after, base_before, base_after):
    """The inputs with so many hallucinated captions of SARE and the base model before and after."""
    metrics = copy.deepcopy(inputs.metrics)
    places = zip(
        (("sare", "origin"), ("sare", "relearn_140"), ("base", "origin"), ("base", "relearn_140")),
        (before, after, base_before, base_after),
        strict=True,
    )
    for key, count in places:
        row = metrics[key]["chair"]
        row["per_image"]["hallucinated"] = [1] * count + [0] * (row["n"] - count)
        row["chair_s"] = 100 * count / row["n"]
    return type(inputs)(**{**vars(inputs), "metrics": metrics, "cache": {}})


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((6, 30, 30, 33), "adds 40.0 points of CHAIR_S to SARE, more than it teaches the base model"),
        ((6, 8, 30, 50), "adds 3.3 points of CHAIR_S to SARE, less than it teaches the base model"),
        (
            (6, 18, 30, 41),
            "adds 20.0 points of CHAIR_S to SARE, not told apart from what it teaches",
        ),
    ],
)
def test_what_comes_back_is_held_against_the_base(inputs, counts, words):
    text = qualification(attacked(inputs, *counts), SPEC)
    assert words in text
    assert "excess " in text


def test_a_base_that_was_not_attacked_is_named(inputs):
    metrics = {key: row for key, row in inputs.metrics.items() if key != ("base", "relearn_140")}
    text = qualification(type(inputs)(**{**vars(inputs), "metrics": metrics, "cache": {}}), SPEC)
    assert "is not known, since the base model was not attacked: name base among config.attacks" in text


def test_lost_recall_after_the_attack_is_said(inputs):
    stripped = strip(inputs)
    ours, other = (stripped.result(run, "relearn_140")["chair"] for run in ("sare", "efuf"))
    ours["recall"], ours["intervals"]["recall"] = 70.0, [68.0, 72.0]
    other["recall"], other["intervals"]["recall"] = 90.0, [88.0, 92.0]
    text = qualification(stripped, SPEC)
    assert "SARE names fewer of the objects that are in the picture: Recall 70.0 against 90.0" in text
    assert contrast(stripped, SPEC, "sare", "efuf", "relearn_140", RECALL).verdict == "worse"


def test_every_sentence_rests_on_measured_rows(bare):
    """With little measured, little is said: no sentence about attacks that were not run."""
    assert [found.verdict for found in findings(read(bare, SPEC), SPEC)] == ["note"]


def test_rates_are_what_the_fixture_promises(inputs):
    for (run, setting), rate in RATES.items():
        assert abs(inputs.result(run, setting)["chair"]["chair_s"] - 100 * rate) < 20
