"""Commands that read a finished workdir or saved results: what was changed there is one line."""

import json

import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.evaluation import compare
from sare_jax.evaluation.metrics import chair
from sare_jax.frontier.command import main as frontier
from sare_jax.pipeline import Ledger
from sare_jax.report.comparisons import at_equal_footing, comparisons
from sare_jax.report.figures import landscape
from sare_jax.report.read import read
from sare_jax.report.spec import ReportSpec
from sare_jax.settings.saved import read_saved
from tests.evaluation.small_worlds import truth_of
from tests.faults.mutate import hostile
from tests.faults.test_readers import COUNT
from tests.frontier.workdirs import make
from tests.report.workdirs import make_workdir


@pytest.fixture
def result(tmp_path) -> dict:
    records = [{"image_id": i, "caption": "A dog and a cat."} for i in (1, 2, 3)]
    truth = truth_of(tmp_path, {1: ["dog"], 2: ["cat"], 3: []})
    return json.loads(json.dumps(chair.score(records, truth, draws=5)))


def test_results_to_compare(tmp_path, result):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    files.write_json(second, result)
    for content in hostile(first, result, COUNT, seed=3):
        refused(lambda: compare.main([str(first), str(second), "--draws", "5"]), content)


@pytest.mark.parametrize("name", ["config.json", "metrics/base/origin.json"])
def test_workdirs_of_curves(tmp_path, name):
    folder = make(tmp_path / "w", methods={"efuf": "neg_weight"})
    command = [str(folder), "--draws", "2", "--out", str(tmp_path / "out")]
    frontier(command)
    path = folder / name
    for content in hostile(path, files.read_json(path), COUNT // 5, seed=3):
        refused(lambda: frontier(command), content)


def refused(call, content: bytes) -> None:
    line = ""
    try:
        call()
    except UserError as error:
        line = str(error)
    except Exception as error:
        raise AssertionError(f"{content[:3000]!r}") from error
    assert not line or line.isprintable()


@pytest.mark.parametrize("name", ["landscape.json", "comparisons.json"])
def test_what_the_page_is_written_from(tmp_path, name):
    rates = {(run, setting): 0.4 for run in ("base", "efuf", "sare") for setting in ("origin", "relearn_140")}
    folder, spec = make_workdir(tmp_path / "w", rates=rates, images=12, draws=5), ReportSpec()
    path = folder / name

    def drawn() -> None:
        inputs = read(folder, spec)
        comparisons(inputs, spec)
        at_equal_footing(inputs, spec)
        landscape(inputs, spec)

    drawn()
    for content in hostile(path, files.read_json(path), COUNT // 3, seed=4):
        refused(drawn, content)


@pytest.mark.parametrize("section", ["runs", "run_labels", "attacks", "data", "evaluate", "report"])
def test_the_section_of_a_workdirs_settings_is_named(tmp_path, section):
    files.write_json(tmp_path / "config.json", {section: [1]})
    with pytest.raises(UserError, match=f"config.json: '{section}' is a list of 1, need an object"):
        read_saved(tmp_path / "config.json")


@pytest.mark.parametrize("content", ["[1]", "junk", '{"status": ["done"]}'])
def test_a_damaged_record_is_not_done(tmp_path, content):
    files.write_text(tmp_path / "records" / "report" / "page.json", content)
    assert not Ledger(tmp_path).is_done("report/page")
