"""The report stage draws frontiers of methods with a weight, and again when a row has changed."""

import pytest

from sare_jax import files
from sare_jax.config import parse
from sare_jax.frontier.writing import NAMES
from sare_jax.stages import report
from sare_jax.stages.context import Context
from tests.frontier.workdirs import WEIGHTS, make


@pytest.fixture
def context(tmp_path):
    folder = make(tmp_path / "run", methods={"efuf": "neg_weight"})
    places = [(at, weight, seed) for at, weight in enumerate(WEIGHTS["efuf"]) for seed in (0, 1)]
    runs = {f"efuf_w{at}_s{seed}": {"neg_weight": weight, "seed": seed} for at, weight, seed in places}
    raw = {
        "name": "test",
        "model": {"folder": "somewhere"},
        "stages": "report",
        "runs": runs,
        "attacks": {"relearn_140": {"num_samples": 140}},
        "evaluate": {"bootstrap": 50},
        "report": {"frontier": {"methods": {"efuf": "neg_weight"}, "recalls": "90"}},
    }
    return Context(parse(raw), folder)


def execute(context):
    """Runs the frontier's task alone; whether there was something to do."""
    before = len(context.ledger.executed)
    for task in report.frontiers(context):
        context.ledger.execute(task)
    return len(context.ledger.executed) > before


def test_frontiers_are_made_once_and_again_when_a_row_changed(context):
    assert execute(context)
    found = files.read_json(context.workdir / "frontier.json")
    assert [at["recall"] for at in found["methods"]["efuf"]["at"]] == [90]
    assert all((context.workdir / name).is_file() for name in NAMES)
    assert not execute(context)
    path = context.metrics("efuf_w1_s0", "relearn_140")
    row = files.read_json(path)
    row["chair"]["per_image"]["hallucinated"] = [1] * row["chair"]["n"]
    files.write_json(path, row)
    assert execute(context)
    assert files.read_json(context.workdir / "frontier.json") != found


def test_without_methods_there_is_nothing_to_draw(context):
    context.config = parse({"name": "test", "model": {"folder": "somewhere"}, "stages": "report"})
    assert not execute(context)
