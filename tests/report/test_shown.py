from sare_jax.report import ReportSpec
from sare_jax.report.shown import by_row, shown
from sare_jax.report.tables import (
    Column,
    Group,
    Row,
    Table,
    absent,
    number_cell,
    plain,
    result_tables,
    table_markdown,
)


def small(*groups):
    return Table(
        "small", "Small", "Setting", (Column("x", "X"), Column("info", "Info.")), groups, ("a note",)
    )


def rows(*numbers):
    return tuple(
        Row(f"s{i}", f"setting {i}", (number_cell(number), absent("not measured")))
        for i, number in enumerate(numbers)
    )


def test_what_holds_no_number_is_left_out_and_named_once():
    table = small(
        Group("a", "A", rows(1.0, None)), Group("b", "B", rows(None, None)), Group("c", "C", rows(2.0))
    )
    found = shown(table)
    assert [column.key for column in found.columns] == ["x"]
    assert [(group.key, [row.key for row in group.rows]) for group in found.groups] == [
        ("a", ["s0"]),
        ("c", ["s0"]),
    ]
    assert found.notes == ("a note", "Not measured: Info.", "Without numbers: A (setting 1); B.")
    assert "not measured" not in table_markdown(found)


def test_words_and_single_gaps_stay():
    table = small(Group("", "", (Row("r", "R", (absent("not measured"), plain("why"))), *rows(1.0))))
    assert shown(table) == table


def test_nothing_measured_leaves_the_reason():
    found = shown(small(Group("", "", rows(None, None))))
    assert found.groups == ()
    assert found.notes[1:] == ("Without numbers: setting 0; setting 1.",)


def test_by_attack_holds_each_row_once_under_its_attack(inputs):
    table = shown(result_tables(inputs, ReportSpec())[0])
    turned = by_row(table)
    assert [group.label for group in turned.groups] == [row.label for row in table.groups[0].rows]
    assert [row.label for row in turned.groups[0].rows] == [group.label for group in table.groups]
    cells = {(group.key, row.key): row.cells for group in table.groups for row in group.rows}
    assert cells == {(row.key, group.key): row.cells for group in turned.groups for row in group.rows}


def test_one_method_has_no_second_view():
    assert by_row(small(Group("a", "A", rows(1.0, 2.0)))) is None
    assert by_row(small(Group("a", "A", rows(1.0)), Group("b", "B", rows(1.0)))) is not None
