import pytest

from sare_jax.report import ReportSpec
from sare_jax.report.comparisons import at_equal_footing, comparisons

SPEC = ReportSpec()


def test_one_row_a_comparison_with_one_column_a_measure(inputs):
    table = comparisons(inputs, SPEC)
    rows = table.groups[0].rows
    assert [row.label for row in rows] == ["relearn 140", "relearn 140, equal CHAIR_S"]
    assert [column.label for column in table.columns] == [
        "Difference",
        "CHAIR_S",
        "CHAIR_I",
        "Recall",
        "What is compared",
    ]
    sides, chair_s, chair_i, recall, note = rows[0].cells
    assert sides.text == "SARE − EFUF"
    assert (chair_s.text, chair_s.detail, chair_s.best) == ("−9.5", "−18.2 to −1.5", True)
    assert not chair_i.best
    assert not recall.best
    assert note.text == "final weights"


def test_missing_entry_leaves_a_dash(inputs):
    del inputs.comparisons[-1]
    assert comparisons(inputs, SPEC).groups[0].rows[1].cells[3].text == "–"


def test_rows_come_by_setting_and_those_that_repeat_are_named_below(inputs):
    first = inputs.comparisons[0]
    inputs.comparisons[:] = [
        first | {"name": name, "difference": difference}
        for name, difference in (
            ("relearn_140", -9.5),
            ("relearn_140, equal length", -9.5),
            ("relearn_140, equal recall", -3.0),
            ("relearn_60", -9.5),
        )
    ]
    table = comparisons(inputs, SPEC)
    assert [row.label for row in table.groups[0].rows] == [
        "relearn 60",
        "relearn 140",
        "relearn 140, equal recall",
    ]
    assert table.notes[-1] == "With the numbers of a row above: relearn 140, equal length."


def test_no_entries_no_table(inputs):
    inputs.comparisons.clear()
    assert comparisons(inputs, SPEC) is None
    assert at_equal_footing(inputs, SPEC) == []


def test_a_difference_of_few_images_is_none(inputs):
    for item in inputs.comparisons:
        item["discordant"] = 5
    assert not any(cell.best for cell in comparisons(inputs, SPEC).groups[0].rows[0].cells)
    (found,) = at_equal_footing(inputs, SPEC)
    assert found.verdict == "none"
    assert "5 of 60 images differ" in found.numbers


@pytest.mark.parametrize(
    ("bounds", "verdict", "words"),
    [
        ([-9, -1], "better", "SARE hallucinates in fewer captions than EFUF"),
        ([1, 9], "worse", "SARE hallucinates in more captions than EFUF"),
        ([-1, 9], "none", "no difference between SARE and EFUF can be told"),
    ],
)
def test_equal_footing_is_told_either_way(inputs, bounds, verdict, words):
    inputs.comparisons[3]["interval"] = bounds
    (found,) = at_equal_footing(inputs, SPEC)
    assert found.verdict == verdict
    assert found.claim == f"From equal CHAIR_S, after relearning with 140 samples, {words}"
    assert "efuf at step 120" in found.numbers


def test_what_is_not_equal_within_the_bound_is_not_comparable(inputs):
    (footing,) = inputs.comparisons[3]["footings"]
    footing["gap"] = 2.0
    (found,) = at_equal_footing(inputs, SPEC)
    assert found.verdict == "open"
    assert found.text == (
        "From equal CHAIR_S, the two are not comparable: the closest checkpoints are 2.0 points apart, "
        "and equal would be 1.0 at most."
    )


def test_the_final_weights_are_not_told_twice(inputs):
    inputs.comparisons[3]["final"] = True
    (found,) = at_equal_footing(inputs, SPEC)
    assert found.verdict == "note"
    assert "are the final weights" in found.claim
