"""Human marks and judge's scores from files fill the report's columns of every run and setting."""

import json
from pathlib import Path

import pytest

from sare_jax import files, stages
from sare_jax.config import parse, to_dict
from sare_jax.report.read import read
from sare_jax.report.spec import spec_of
from sare_jax.report.tables import result_tables
from sare_jax.report.terminal import table_text
from sare_jax.settings.road import Config
from tests import tiny_llava
from tests.evaluation.small_worlds import write_coco

IDS = range(1, 7)


def settings(root: Path, **options) -> Config:
    return parse(
        {
            "name": "tiny",
            "stages": "prepare,evaluate,attack",
            "data": {
                "images": str(root / "images"),
                "annotations": str(root / "annotations"),
                "reserve_validation": 1,
                "reserve_test": 4,
            },
            "model": {"folder": str(root / "model"), "dtype": "float32"},
            "evaluate": {
                "max_new_tokens": 4,
                "batch_size": 8,
                "metrics": "chair,human,informativeness",
                "options": {"human": {"captions": 3}, **options},
                "bootstrap": 20,
            },
            "attacks": {"adversarial": {"kind": "prompt"}},
            "report": {"matched": False},
        }
    )


@pytest.fixture(scope="module")
def road(tmp_path_factory) -> Path:
    """A base model, asked plainly and under a prompt attack, in `run`."""
    root = tmp_path_factory.mktemp("world")
    (root / "model").mkdir()
    tiny_llava.write_llava(root / "model")
    write_coco(root / "annotations", {i: ["dog"] for i in IDS}, {i: ["a dog"] for i in IDS})
    (root / "images").mkdir()
    for i, picture in zip(IDS, tiny_llava.pictures(len(IDS)), strict=True):
        picture.save(root / "images" / f"COCO_val2014_{i:012d}.jpg")
    stages.run(settings(root), root / "run")
    return root


def shown(root: Path, config: Config) -> dict[str, list]:
    """Column → the cells of both settings, of the report's first table."""
    spec = spec_of(to_dict(config))
    table = result_tables(read(root / "run", spec), spec)[0]
    rows = [row.cells for row in table.groups[0].rows]
    return {c.key: cells for c, *cells in zip(table.columns, *rows, strict=True)}


def test_marks_and_scores_of_a_blind_session_fill_the_columns(road):
    session = files.read_jsonl(road / "run" / "human" / "session.jsonl")
    key = files.read_jsonl(road / "run" / "human" / "key.jsonl")
    assert {tuple(row) for record in key for row in record["rows"]} == {
        ("base", "origin"),
        ("base", "adversarial"),
    }
    assert 3 <= len(session) <= 6
    assert all(record.keys() == {"image", "caption"} for record in session)
    assert stages.run(settings(road), road / "run").executed == []

    wrong = key[0]["rows"]
    marks = [
        {
            **record,
            "marks": [{"start": 0, "end": 1, "verdict": "correct" if n else "hallucinated"}],
            "done": n < len(session) - 1,
        }
        for n, record in enumerate(session)
    ]
    files.write_jsonl(road / "marks.jsonl", marks)
    files.write_jsonl(road / "scores.jsonl", [record | {"score": 70} for record in session])
    human = {"captions": 3, "marks": str(road / "marks.jsonl")}
    config = settings(road, human=human, informativeness={"scores": str(road / "scores.jsonl")})
    done = stages.run(config, road / "run").executed
    assert done == ["metrics/base/origin", "metrics/base/adversarial"]
    for setting in ("origin", "adversarial"):
        found = json.loads((road / "run" / "metrics" / "base" / f"{setting}.json").read_text())
        unfinished = ["base", setting] in key[-1]["rows"]
        assert (found["human"]["n"], found["human"]["n_drawn"]) == (3 - unfinished, 3)
        assert found["human"]["n_hallucinated"] == int(["base", setting] in wrong)
        assert found["informativeness"]["n"] == 3
        assert found["informativeness"]["informativeness"] == 70
    cells = shown(road, config)
    assert all(isinstance(cell.value, float) for cell in (*cells["human_s"], *cells["human_i"]))
    assert [cell.text for cell in cells["informativeness"]] == ["70.0", "70.0"]
    text = table_text(road / "run", spec_of(to_dict(config)))
    assert "3 captions that people were to mark in every row." in text
    assert "2 to 3 captions that people marked, by row." in text or "2 captions that people marked" in text


def test_a_larger_session_holds_the_smaller_one_and_none_is_made_where_none_is_wanted(road):
    stages.run(settings(road), road / "run")
    small = files.read_jsonl(road / "run" / "human" / "session.jsonl")
    assert stages.run(settings(road, human={"captions": 4}), road / "run").executed == ["human/session"]
    large = files.read_jsonl(road / "run" / "human" / "session.jsonl")
    assert len(large) > len(small)
    assert all(record in large for record in small)
    for config in (settings(road, human={"captions": 0}), settings(road)):
        files.remove(road / "run" / "human")
        assert ("human/session" in stages.run(config, road / "run").executed) == (config == settings(road))
