"""JSON of any kind ends as a value or as one line; drafts belong to one process; names of records."""

import json
import os
import subprocess
import sys

import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.files import parse_json, read_json, read_jsonl, read_text
from sare_jax.unwritable import WriteError

BAD_JSON = {
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 100_000,
    "long number": b"9" * 5000,
    "number beyond floats": b"1" + b"0" * 400,
    "not UTF-8": b'"\xff\xfe\xff"',
    "half a mark": b"\xff\xfe{",
    "empty": b"",
    "cut": b'{"a": [1, ',
    "two values": b"{} {}",
    "control character": b'"a\x00b"',
}


@pytest.mark.parametrize("name", BAD_JSON)
@pytest.mark.parametrize("read", [read_json, read_jsonl])
def test_what_the_parser_raises_is_one_line_that_names_the_file(tmp_path, read, name):
    path = tmp_path / "a.json"
    path.write_bytes(BAD_JSON[name])
    if name == "empty" and read is read_jsonl:
        assert read(path) == []
        return
    with pytest.raises(UserError, match=r"a\.json.*(not valid JSON|not in UTF-8)") as caught:
        read(path)
    assert str(caught.value).isprintable()


def test_what_is_no_file_is_one_line(tmp_path):
    (tmp_path / "folder").mkdir()
    for name, what in (("folder", "Is a directory"), ("none", "no such file"), ("a\0b", "cannot be read")):
        with pytest.raises(UserError, match=what):
            read_json(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path / ("n" * 5000))


def test_halves_of_characters_are_mended_and_whole_ones_kept():
    value = parse_json(r'{"a\ud83d": ["\ud83d\ude00", "x\udc00y"]}', "text")
    assert value == {"a\ufffd": ["\U0001f600", "x\ufffdy"]}
    json.dumps(value, ensure_ascii=False).encode()


def test_numbers_that_programs_write_are_read():
    assert parse_json('{"model_max_length": 1000000000000000019884624838656}', "x") == {
        "model_max_length": 10**30 + 19884624838656
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings(tmp_path, encoding):
    path = tmp_path / "a.json"
    path.write_text('{"1": "naïve 🐶"}', encoding=encoding)
    assert read_json(path) == {"1": "naïve 🐶"}


def test_other_encodings_are_named_with_the_byte(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes('"café"'.encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.json: not in UTF-8 \(byte 4\)"):
        read_text(path)


def test_two_drafts_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.txt"
    with files.replacing(path) as one, files.replacing(path) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


LEFT = """
import os, sys
from pathlib import Path
from sare_jax import files
with files.replacing(Path(sys.argv[1])) as draft:
    draft.mkdir()
    (draft / "part").write_text("half")
    os._exit(9)
"""


def test_drafts_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path):
    subprocess.run([sys.executable, "-c", LEFT, str(tmp_path / "a")], check=False)
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1
    living = tmp_path / left[0].replace(left[0].split("-")[1], str(os.getppid()))
    living.mkdir()
    elsewhere, forgotten = tmp_path / ".a.01234567-1-0.draft", tmp_path / ".a.01234567-2-0.draft"
    elsewhere.touch()
    forgotten.touch()
    os.utime(forgotten, (0, 0))
    files.write_text(tmp_path / "b", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, elsewhere.name, "b"])


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path):
    """What somebody names by mistake as the file to write may be a folder full of work."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(WriteError, match=r"a: cannot be written .*a folder is where a file should be"):
        files.write_text(tmp_path / "a", "text")
    assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
