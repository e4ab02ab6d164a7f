from sare_jax.report import ReportSpec
from sare_jax.report.details import counts, mapping_table, provenance, rules, selection, summary

SPEC = ReportSpec()


def texts(table):
    return {row.label: [cell.text for cell in row.cells] for group in table.groups for row in group.rows}


def test_summary_of_erased_and_given_back(inputs):
    for run, setting, number in (
        ("base", "origin", 60.0),
        ("base", "relearn_140", 78.5),
        ("sare", "origin", 20.0),
        ("sare", "relearn_140", 30.0),
        ("efuf", "origin", 70.0),
    ):
        inputs.result(run, setting)["chair"]["chair_s"] = number
    found = texts(summary(inputs, SPEC))
    assert found["SARE"][:5] == ["20.0", "−40.0", "30.0", "+10.0", "−8.5"]
    assert found["EFUF"][:2] == ["70.0", "+10.0"]


def test_summary_of_runs_that_were_not_attacked(inputs):
    del inputs.metrics["sare", "relearn_140"]
    assert texts(summary(inputs, SPEC))["SARE"][2:5] == ["not measured"] * 3


def test_selection_by_run(inputs):
    table = selection(inputs, SPEC)
    assert texts(table)["SARE"] == ["6", "0.001", "0.7", "0.05", "29.5"]
    assert [column.label for column in table.columns][-3:] == ["λ₁", "ρ", "CHAIR_S"]
    assert table.notes[0] == "split: val"


def test_selection_of_another_form_is_shown_name_by_name(inputs):
    inputs.selection.clear()
    assert selection(inputs, SPEC) is None
    inputs.selection.update({"budget": 6, "trials": [{"rho": 0.1}, {"rho": 0.2}]})
    assert texts(selection(inputs, SPEC)) == {"budget": ["6"], "trials": ["2 entries"]}


def test_values_in_words():
    table = mapping_table("x", "X", {"a": {"b": 1e-05, "c": True, "d": None}, "e": [1, 2.5], "f": -3.0})
    assert texts(table) == {"a.b": ["1e−05"], "a.c": ["yes"], "a.d": ["none"], "e": ["1, 2.5"], "f": ["−3"]}


def test_rules_are_said_once(inputs):
    found = dict(rules(inputs, SPEC))
    assert "POPE random, POPE popular, POPE adversarial" in found
    assert found["CHAIR, recall, words"] == inputs.result("sare", "origin")["chair"]["rule"]


def test_counts_are_said_once_where_all_rows_agree(inputs):
    assert counts(inputs, SPEC)[0] == "60 captions in every row."
    inputs.result("sare", "origin")["chair"]["n"] = 55
    assert counts(inputs, SPEC)[0] == "55 to 60 captions, by row."


def test_provenance_names_settings_and_sources(inputs):
    tables = {table.key: texts(table) for table in provenance(inputs)}
    assert tables["config"]["optim.rho"] == ["0.05"]
    assert tables["provenance"]["provenance.split"] == ["test"]
    assert len(tables["sources"]["metrics/base/origin.json"][0]) == 16
