"""Commands that read a finished workdir or saved results: what was changed there is one line."""

import dataclasses
import json
from pathlib import Path

import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.evaluation import compare
from sare_jax.evaluation.metrics import chair
from sare_jax.frontier.command import main as draw_curves
from sare_jax.frontier.writing import frontier
from sare_jax.pipeline import Ledger
from sare_jax.report import details, frontier_figures, frontiers, training_figures
from sare_jax.report.attacked import attacks
from sare_jax.report.comparisons import at_equal_footing, comparisons
from sare_jax.report.curated import curation, score_figure
from sare_jax.report.disjoint import disjoint
from sare_jax.report.figures import landscape
from sare_jax.report.gallery import exhibits
from sare_jax.report.headline import headline, qualification
from sare_jax.report.masked import masking
from sare_jax.report.probed import probes
from sare_jax.report.read import read
from sare_jax.report.spec import ReportSpec
from sare_jax.report.tables import result_tables
from sare_jax.settings.saved import read_saved
from tests.evaluation.small_worlds import truth_of
from tests.faults.mutate import hostile
from tests.faults.test_readers import COUNT, SEED
from tests.frontier.workdirs import METHODS, make
from tests.report.test_probed import made as probed
from tests.report.workdirs import make_workdir


@pytest.fixture
def result(tmp_path) -> dict:
    records = [{"image_id": i, "caption": "A dog and a cat."} for i in (1, 2, 3)]
    truth = truth_of(tmp_path, {1: ["dog"], 2: ["cat"], 3: []})
    return json.loads(json.dumps(chair.score(records, truth, draws=5)))


def test_results_to_compare(tmp_path, result):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    files.write_json(second, result)
    for content in hostile(first, result, COUNT, seed=SEED + 3):
        refused(lambda: compare.main([str(first), str(second), "--draws", "5"]), content)


@pytest.mark.parametrize("name", ["config.json", "metrics/base/origin.json"])
def test_workdirs_of_curves(tmp_path, name):
    folder = make(tmp_path / "w", methods={"efuf": "neg_weight"})
    command = [str(folder), "--draws", "2", "--out", str(tmp_path / "out")]
    draw_curves(command)
    path = folder / name
    for content in hostile(path, files.read_json(path), COUNT // 5, seed=SEED + 3):
        refused(lambda: draw_curves(command), content)


def refused(call, content: bytes) -> None:
    line = ""
    try:
        call()
    except UserError as error:
        line = str(error)
    except Exception as error:
        raise AssertionError(f"{content[:3000]!r}") from error
    assert not line or line.isprintable()


DRAWN = {
    "metrics/sare/origin.json": lambda inputs, spec: (
        result_tables(inputs, spec),
        details.rules(inputs, spec),
        details.counts(inputs, spec),
        details.provenance(inputs),
        disjoint(inputs, spec),
        attacks(inputs, spec),
        headline(inputs, spec),
    ),
    "answers/sare/origin/captions.jsonl": lambda inputs, spec: exhibits(inputs, spec, None, None),
    "logs/sare.jsonl": training_figures.training,
    "landscape.json": lambda inputs, spec: (landscape(inputs, spec), details.sharpness(inputs, spec)),
    "comparisons.json": lambda inputs, spec: (comparisons(inputs, spec), at_equal_footing(inputs, spec)),
    "selection.json": details.selection,
    "config.json": lambda inputs, spec: details.provenance(inputs),
    "curated/manifest.json": lambda inputs, spec: (curation(inputs), score_figure(inputs)),
    "probes/sare/relearn_140.json": lambda inputs, spec: probes(inputs.probes, spec),
    "attacks/sare/relearn_140.json": disjoint,
    "masking/base.json": masking,
    "frontier.json": lambda inputs, spec: (
        headline(inputs, spec),
        qualification(inputs, spec),
        frontiers.tables(inputs.frontier),
        frontiers.sentences(inputs.frontier, spec.ours),
        frontier_figures.frontiers(inputs.frontier),
    ),
}
"""Of the files that a report is made from, what is made of each."""


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> Path:
    """A workdir with every file that a report may be made from."""
    rates = {(run, setting): 0.4 for run in ("base", "efuf", "sare") for setting in ("origin", "relearn_140")}
    folder = make_workdir(tmp_path_factory.mktemp("reported"), rates=rates, images=12, draws=5)
    for (run, setting), found in probed().items():
        files.write_json(folder / "probes" / run / f"{setting}.json", found)
    for run in ("base", "efuf", "sare"):
        halves = {"taught": ["dog", "car"], "held_out": ["bird", "spoon"]}
        files.write_json(folder / "attacks" / run / "relearn_140.json", halves)
        told = {"run": run, "before": 4.1, "after": 3.0, "gained": 1.1, "steps": 20}
        files.write_json(folder / "masking" / f"{run}.json", told)
    curves = make(tmp_path_factory.mktemp("curves") / "w")
    drawn = frontier([curves], METHODS, "relearn_140", [90.0, 93.0], "efuf", draws=5)
    files.write_json(folder / "frontier.json", drawn)
    return folder


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", DRAWN)
def test_what_a_report_is_made_from(reported, name):
    spec = dataclasses.replace(ReportSpec(), ours="robust" if name == "frontier.json" else "sare")
    path = reported / name
    whole = path.read_bytes()

    def drawn() -> None:
        made = DRAWN[name](read(reported, spec), spec)
        json.dumps(made, default=dataclasses.asdict, allow_nan=False)

    assert name in read(reported, spec).sources
    drawn()
    lines = path.suffix == ".jsonl"
    valid = files.read_jsonl(path) if lines else files.read_json(path)
    count = COUNT // (30 if name.startswith("logs") else 5)  # that many curves take long to draw
    for changed in hostile(path, valid, count, seed=SEED + 4, lines=lines):
        refused(drawn, changed)
    path.write_bytes(whole)


@pytest.mark.parametrize("section", ["runs", "run_labels", "attacks", "data", "evaluate", "report"])
def test_the_section_of_a_workdirs_settings_is_named(tmp_path, section):
    files.write_json(tmp_path / "config.json", {section: [1]})
    with pytest.raises(UserError, match=f"config.json: '{section}' is a list of 1, need an object"):
        read_saved(tmp_path / "config.json")


@pytest.mark.parametrize("name", ["a/b", "a\0b", "ä" * 101])
@pytest.mark.parametrize("place", ["runs", "attacks", "matched_attack"])
def test_names_that_no_file_can_have_are_one_line(tmp_path, place, name):
    """They are read off a workdir's settings, and become paths."""
    content = {"report": {place: name}} if place == "matched_attack" else {place: {name: {}}}
    files.write_json(tmp_path / "config.json", content)
    with pytest.raises(UserError, match="names a run or an attack, but no file can be called so"):
        read_saved(tmp_path / "config.json")


@pytest.mark.parametrize("content", ["[1]", "junk", '{"status": ["done"]}'])
def test_a_damaged_record_is_not_done(tmp_path, content):
    files.write_text(tmp_path / "records" / "report" / "page.json", content)
    assert not Ledger(tmp_path).is_done("report/page")
