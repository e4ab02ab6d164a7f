import json

import pytest

from sare_jax.report import ReportSpec
from sare_jax.report.tables import (
    Cell,
    Column,
    Group,
    Row,
    Table,
    inert,
    interval_text,
    number_text,
    result_tables,
    signed_text,
    table_json,
    table_markdown,
)


@pytest.mark.parametrize(
    ("number", "text"), [(3.14159, "3.1"), (-2.0, "−2.0"), (-0.01, "0.0"), (0, "0.0"), (100, "100.0")]
)
def test_number_text(number, text):
    assert number_text(number) == text


def test_signs():
    assert signed_text(1.25, 2) == "+1.25"
    assert signed_text(-1.25, 2) == "−1.25"
    assert signed_text(0.001) == "0.0"


def test_interval_with_negative_bound_is_written_in_words():
    assert interval_text((1, 2)) == "1.0–2.0"
    assert interval_text((-1, 2)) == "−1.0 to 2.0"


def cells(table, run, setting):
    group = next(group for group in table.groups if group.key == run)
    row = next(row for row in group.rows if row.key == setting)
    return dict(zip([column.key for column in table.columns], row.cells, strict=True))


def test_rows_are_those_of_the_papers_table(inputs):
    table = result_tables(inputs, ReportSpec())[0]
    rows = {group.key: [row.key for row in group.rows] for group in table.groups}
    assert rows["base"] == rows["sare"]
    assert rows["sare"] == ["origin", "relearn_60", "relearn_100", "relearn_140", "adversarial"]
    assert list(rows) == ["base", "efuf", "sare", "unlikelihood", "unlikelihood_sam"]


def test_numbers_are_those_of_the_metrics_file(inputs):
    found = cells(result_tables(inputs, ReportSpec())[0], "efuf", "relearn_100")
    chair = inputs.result("efuf", "relearn_100")["chair"]
    assert found["chair_s"].value == chair["chair_s"]
    assert list(found["chair_s"].interval) == chair["intervals"]["chair_s"]
    assert found["n"].text == "60"
    assert found["human_s"].text == "not measured"


def test_best_is_marked_within_a_setting_and_not_where_no_direction_is_good(inputs):
    table = result_tables(inputs, ReportSpec())[0]
    rows = {run.key: cells(table, run.key, "relearn_140") for run in ReportSpec().runs}
    least = min(row["chair_s"].value for row in rows.values())
    assert {key for key, row in rows.items() if row["chair_s"].best} == {
        key for key, row in rows.items() if row["chair_s"].value == pytest.approx(least, abs=0.05)
    }
    assert not any(row["mean_words"].best for row in rows.values())


def test_a_single_row_has_no_best(bare):
    from sare_jax.report.read import read

    inputs = read(bare, ReportSpec())
    inputs.metrics.pop(("base", "origin"))
    found = cells(result_tables(inputs, ReportSpec())[0], "sare", "origin")
    assert not any(cell.best for cell in found.values())


def test_settings_that_were_not_run_say_so(bare):
    from sare_jax.report.read import read

    found = cells(result_tables(read(bare, ReportSpec()), ReportSpec())[0], "sare", "relearn_60")
    assert {cell.text for cell in found.values()} == {"not run"}


SMALL = Table(
    "small",
    "Two | things",
    "Run",
    (Column("x", "CHAIR_S", "lower"), Column("why", "Why")),
    (
        Group(
            "a",
            "A",
            (Row("one", "one", (Cell("1.0", "0.5–1.5", 1.0, (0.5, 1.5), True), Cell("a|b", value="a|b"))),),
        ),
    ),
    ("a note",),
)


def test_markdown():
    assert table_markdown(SMALL).splitlines() == [
        "**Two | things**",
        "",
        "| Run | Run | CHAIR_S ↓ | Why |",
        "| --- | --- | --- | --- |",
        "| A | one | **1.0** (0.5–1.5) | a\\|b |",
        "",
        "- a note",
    ]


def test_no_text_in_markdown_becomes_html_or_a_link():
    hostile = "<script>alert(1)</script> <!-- --> ![x](http://a.b/c) [y](javascript:z), p < 0.05, a<b"
    shown = "&lt;script>alert(1)&lt;/script> &lt;!-- --> ![x]\\(http://a.b/c) [y]\\(javascript:z), p < 0.05"
    assert inert(hostile) == f"{shown}, a&lt;b"


def test_json():
    found = json.loads(json.dumps(table_json(SMALL)))
    assert found["rows"] == [
        {
            "run": "a",
            "key": "one",
            "label": "one",
            "cells": {"x": {"value": 1.0, "interval": [0.5, 1.5]}, "why": {"value": "a|b"}},
        }
    ]
