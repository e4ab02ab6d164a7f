import shutil

import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.report import ReportSpec, write
from sare_jax.report.read import read

SPEC = ReportSpec()


@pytest.fixture
def copy(bare, tmp_path):
    return shutil.copytree(bare, tmp_path / "copy")


def test_everything_is_read(workdir):
    inputs = read(workdir, SPEC)
    assert len(inputs.metrics) == 25
    assert set(inputs.logs) == {"efuf", "sare", "unlikelihood", "unlikelihood_sam"}
    assert ("base", "origin") in inputs.answers
    assert ("sare", "relearn_140") in inputs.answers
    assert inputs.missing == []
    assert inputs.sources["landscape.json"] == files.hash_file(workdir / "landscape.json")


def test_what_is_missing_is_named(bare):
    missing = read(bare, SPEC).missing
    for name in ("landscape.json", "logs/sare.jsonl", "selection.json", "metrics/efuf/relearn_60.json"):
        assert any(name in line for line in missing), name


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read(tmp_path / "nowhere", SPEC)


def test_no_metrics(tmp_path):
    with pytest.raises(UserError, match="run the stages evaluate and attack first"):
        read(tmp_path, SPEC)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("metrics/sare/origin.json", "{", "metrics/sare/origin.json: not valid JSON"),
        (
            "metrics/sare/origin.json",
            "[]",
            "metrics/sare/origin.json is an empty list, need an object;",
        ),
        ("landscape.json", "[]", "landscape.json is an empty list, need an object; remove the file and run"),
        ("comparisons.json", "{}", "comparisons.json is an empty object, need a list"),
        ("comparisons.json", '[{"a": "sare"}]', "comparisons.json[0] has no 'b'"),
        ("answers/sare/origin/captions.jsonl", '{"image_id": 1}', "captions.jsonl[0] has no 'text'"),
        ("logs/sare.jsonl", "{}\nstep 2", "logs/sare.jsonl:2: not valid JSON"),
    ],
)
def test_broken_files_are_named_in_one_line(copy, name, text, words):
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_text(text)
    with pytest.raises(UserError) as caught:
        write(copy, SPEC)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (copy / "report.html").exists()
