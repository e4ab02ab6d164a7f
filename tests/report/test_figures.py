import csv
import re

import pytest

from sare_jax.report import ReportSpec, RunSpec, figures, training_figures
from sare_jax.report.comma_separated import points_csv
from sare_jax.report.curated import curation, score_figure
from sare_jax.report.details import sharpness
from sare_jax.report.palette import look
from sare_jax.report.spans import LEAST, widen
from sare_jax.report.svg import inline, panel

SPEC = ReportSpec()


def all_panels(inputs):
    groups = (
        figures.hero(inputs, SPEC),
        figures.relearning(inputs, SPEC),
        figures.prompts(inputs, SPEC),
        figures.landscape(inputs, SPEC),
        training_figures.training(inputs, SPEC),
        score_figure(inputs),
    )
    return [panel for group in groups for panel in group.panels]


def test_panels_follow_the_page(inputs):
    panels = all_panels(inputs)
    assert len(panels) == 1 + 4 + 2 + 6 + 9 + 1
    for item in panels:
        assert item.svg.startswith("<svg viewBox=")
        assert re.search(r'aria-label="[^"]{20,}"', item.svg)
        assert "#0a000" not in item.svg, "a stand-in colour is left"
        assert "#0b000" not in item.svg
        assert "font-family" not in item.svg
        assert "<metadata" not in item.svg
    ids = [name for item in panels for name in re.findall(r' id="([^"]*)"', item.svg)]
    assert len(ids) == len(set(ids))
    used = {name for item in panels for name in re.findall(r'(?:href="|url\()#([^")]*)', item.svg)}
    assert used <= set(ids)


def test_descriptions_hold_the_numbers(inputs):
    svg = figures.relearning(inputs, SPEC).panels[0].svg
    for setting, samples in (("origin", 0), ("relearn_140", 140)):
        number = inputs.result("sare", setting)["chair"]["chair_s"]
        assert f"{number:.1f} at {samples}" in svg


def test_tick_labels_keep_their_digits():
    with panel() as (figure, axes):
        axes.plot([0, 0.375], [0, 1])
        axes.set_xticks([0.125, 0.375])
        svg = inline(figure, "ticks", "digits")
    assert ">0.125<" in svg
    assert ">0.375<" in svg


def test_equal_data_give_equal_svg(inputs):
    first, second = (figures.relearning(inputs, SPEC).panels[0].svg for _ in range(2))
    assert first == second


def test_looks_differ_by_more_than_colour():
    looks = [look(SPEC, run.key) for run in SPEC.runs]
    assert len({item.color for item in looks}) == 5
    assert len({(item.dash, item.marker, item.filled) for item in looks}) == 5


def test_looks_of_many_runs_keep_the_base_apart():
    spec = ReportSpec(runs=tuple(RunSpec(f"run{i}", f"Run {i}") for i in range(12)))
    assert [look(spec, f"run{i}").index for i in range(12)] == [0, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5]


def test_landscape_with_points_left_out(inputs):
    inputs.landscape["runs"]["sare"]["eps"]["chair_s"][1] = None
    del inputs.landscape["runs"]["efuf"]["random"]
    group = figures.landscape(inputs, SPEC)
    assert group.runs == ("efuf", "sare")
    assert "−0.75" not in re.search(r"SARE ([^;]*)", group.panels[2].svg)[1]


def test_sharpness_is_the_change_from_the_solution(inputs):
    scan = {"alpha": [-0.5, 0.0, 0.5], "loss": [4.0, 3.0, 1.5], "chair_s": [20.0, 30.0, 45.0]}
    inputs.landscape["runs"] = {"sare": {"eps": scan, "random": {}}}
    table = sharpness(inputs, SPEC)
    (row,) = table.groups[0].rows
    assert "‖Δθ‖₂ = 0.5 away" in table.caption
    inputs.landscape["rho"] = 0.025
    assert sharpness(inputs, SPEC).notes[-1].endswith("is 0.025; the ends are 20 ρ away.")
    assert [cell.value for cell in row.cells] == [-1.5, 15.0, 1.0, -10.0, "not measured", "not measured"]


def test_absent_artifacts_give_no_figures(bare):
    from sare_jax.report.read import read

    inputs = read(bare, SPEC)
    for make in (
        figures.hero,
        figures.relearning,
        figures.prompts,
        figures.landscape,
        training_figures.training,
    ):
        assert make(inputs, SPEC) is None
    assert score_figure(inputs) is None
    assert curation(inputs) == []


def test_training_curves_are_means_of_neighbours():
    records = [{"step": step, "neg": float(step % 2)} for step in range(1, 401)]
    found = training_figures._series(records, "neg")
    assert len(found) == 40
    assert found[0] == pytest.approx((11.0, 11 / 21))
    assert found[20] == pytest.approx((206.0, 20 / 41)) or found[20] == pytest.approx((206.0, 21 / 41))
    assert all(0.4 < y < 0.6 for _, y in found), "the swing of single steps is gone"
    assert training_figures._series([{"step": 3, "neg": 1.5}, {"step": 4, "neg": float("nan")}], "neg") == [
        (3.0, 1.5)
    ]


def test_an_axis_spans_at_least_what_the_measure_needs(inputs):
    with panel() as (_, axes):
        axes.plot([0, 1], [40.0, 40.1])
        widen(axes, "mean_words")
        low, high = axes.get_ylim()
        assert high - low == pytest.approx(LEAST["mean_words"])
        assert (low + high) / 2 == pytest.approx(40.05)
        axes.set_ylim(97, 102)
        widen(axes, "recall", most=101)
        assert axes.get_ylim() == (97, 101)
        axes.set_ylim(99, 100.8)
        widen(axes, "recall", most=101)
        assert axes.get_ylim() == pytest.approx((96, 101))
        axes.set_ylim(0, 60)
        widen(axes, "chair_s")
        assert axes.get_ylim() == (0, 60)


def test_each_number_is_told_where_it_stands(inputs):
    drawn = figures.hero(inputs, SPEC).panels[0]
    number, interval = (
        inputs.result("sare", "relearn_100")["chair"]["chair_s"],
        inputs.result("sare", "relearn_100")["chair"]["intervals"]["chair_s"],
    )
    title = f"SARE, 100: {number:.1f} ({interval[0]:.1f}–{interval[1]:.1f})"
    discs = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="7"><title>([^<]*)</title>', drawn.svg)
    assert title in [text for *_, text in discs]
    assert len(discs) == 5 * 4
    by_text = {text.partition(":")[0]: (float(x), float(y)) for x, y, text in discs}
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', drawn.svg).groups())
    assert all(0 < x < width and 0 < y < height for x, y in by_text.values())
    assert by_text["SARE, 0"][0] < by_text["SARE, 60"][0] < by_text["SARE, 140"][0]
    assert by_text["Base model, 0"][1] < by_text["SARE, 0"][1], "the higher number stands higher"
    rows = list(csv.reader(points_csv(drawn.points).splitlines()))
    assert ["SARE", "100", str(number), str(interval[0]), str(interval[1])] in rows


def test_the_headline_shows_all_methods(inputs):
    assert figures.hero(inputs, SPEC).runs == tuple(run.key for run in SPEC.runs)


def test_curation_without_truth_says_not_measured(inputs):
    del inputs.manifest["audit"]
    sets = curation(inputs)[0]
    assert [row.cells[2].text for row in sets.groups[0].rows] == ["not measured"] * 3
    assert "AUC of the CLIP score: not measured." in sets.notes


def test_the_base_model_has_a_curve_where_it_was_attacked(inputs):
    described = figures.relearning(inputs, SPEC).panels[0].svg.partition("Base model")[2]
    number = inputs.result("base", "relearn_140")["chair"]["chair_s"]
    assert f"{number:.1f} at 140" in described
    for setting in ("relearn_60", "relearn_100", "relearn_140"):
        del inputs.metrics["base", setting]
    assert f"{number:.1f} at 140" not in figures.relearning(inputs, SPEC).panels[0].svg.partition(";")[0]
