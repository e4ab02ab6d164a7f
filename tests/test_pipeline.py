"""A task runs once, again when its inputs or outputs changed, and goes on after an interruption."""

import json
from pathlib import Path

import pytest

from sare_jax import files, pipeline
from sare_jax.errors import UserError
from sare_jax.pipeline import Ledger, Task


def counting(workdir: Path, value: int, calls: list) -> Task:
    output = workdir / "out.json"

    def run():
        calls.append(value)
        files.write_json(output, {"value": value})

    return Task("stage/thing", {"value": value}, (output,), run)


def test_skipped_while_inputs_and_outputs_match(tmp_path):
    calls = []
    Ledger(tmp_path).execute(counting(tmp_path, 1, calls))
    second = Ledger(tmp_path)
    second.execute(counting(tmp_path, 1, calls))
    assert calls == [1]
    assert second.executed == []


def test_redone_when_an_input_changes(tmp_path):
    calls = []
    for value in (1, 2, 2, 1):
        Ledger(tmp_path).execute(counting(tmp_path, value, calls))
    assert calls == [1, 2, 1]
    assert json.loads((tmp_path / "out.json").read_text()) == {"value": 1}


@pytest.mark.parametrize("damage", ["edit", "remove"])
def test_redone_when_an_output_was_touched(tmp_path, damage):
    calls = []
    Ledger(tmp_path).execute(counting(tmp_path, 1, calls))
    if damage == "edit":
        (tmp_path / "out.json").write_text("{}")
    else:
        (tmp_path / "out.json").unlink()
    Ledger(tmp_path).execute(counting(tmp_path, 1, calls))
    assert calls == [1, 1]


def failing_once(workdir: Path, value: int, seen: list) -> Task:
    draft, output = workdir / "draft.txt", workdir / "out.txt"

    def run():
        seen.append(draft.read_text() if draft.exists() else None)
        if not draft.exists():
            draft.write_text(f"half of {value}")
            raise KeyboardInterrupt
        files.write_text(output, draft.read_text())

    return Task("stage/long", {"value": value}, (output,), run, scratch=(draft,))


def test_interrupted_work_goes_on_from_its_scratch(tmp_path):
    seen = []
    with pytest.raises(KeyboardInterrupt):
        Ledger(tmp_path).execute(failing_once(tmp_path, 1, seen))
    Ledger(tmp_path).execute(failing_once(tmp_path, 1, seen))
    assert seen == [None, "half of 1"]


def test_scratch_of_other_inputs_is_not_trusted(tmp_path):
    seen = []
    for value in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            Ledger(tmp_path).execute(failing_once(tmp_path, value, seen))
    assert seen == [None, None]


def test_a_failure_leaves_the_earlier_output(tmp_path):
    calls = []
    Ledger(tmp_path).execute(counting(tmp_path, 1, calls))

    def run():
        with files.replacing(tmp_path / "out.json") as draft:
            draft.write_text("half")
            raise UserError("broken input")

    with pytest.raises(UserError):
        Ledger(tmp_path).execute(Task("stage/thing", {"value": 2}, (tmp_path / "out.json",), run))
    assert json.loads((tmp_path / "out.json").read_text()) == {"value": 1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "records"]


def test_a_task_that_makes_nothing_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="without making"):
        Ledger(tmp_path).execute(Task("stage/none", {}, (tmp_path / "none",), lambda: None))


def test_stages_run_in_the_given_order_and_see_earlier_artifacts(tmp_path):
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"

    def one():
        yield Task("one", {}, (first,), lambda: files.write_text(first, "a"))

    def two():
        made_from = files.digest(pipeline.require(first, "one"))
        yield Task("two", {"first": made_from}, (second,), lambda: files.write_text(second, made_from))

    ledger = Ledger(tmp_path)
    pipeline.run({"one": one, "two": two}, ("one", "two"), ledger)
    assert ledger.executed == ["one", "two"]
    assert second.read_text() == files.hash_file(first)


def test_a_missing_artifact_names_the_stage_to_run(tmp_path):
    with pytest.raises(UserError, match="run the stage 'curate' first"):
        pipeline.require(tmp_path / "curated", "curate")
