"""What is kept of unfinished work is trusted line by line, as far as it is unchanged."""

import pytest

from sare_jax.records.journal import Journal, open_scratch

VALUES = [{"a": 1.5}, ["ä\u2028"], [], {"b": [1, 2]}]


@pytest.fixture
def path(tmp_path):
    journal = Journal(tmp_path / "j.jsonl")
    assert (len(journal), list(journal)) == (0, [])
    for value in VALUES:
        journal.append(value)
    return tmp_path / "j.jsonl"


def test_a_journal_is_read_from_the_disk_and_a_torn_line_is_cut_off(path, caplog):
    whole = path.read_bytes()
    with path.open("ab") as stream:
        stream.write(b'{"sum": "0123')
    again = Journal(path)
    assert len(again) == len(VALUES)
    assert path.read_bytes() == whole
    again.append(1)
    assert list(again) == list(Journal(path)) == [*VALUES, 1]
    assert not caplog.text


def lines_with(path, change):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(change(lines)))


CHANGES = {
    "a value changed": (lambda ls: [ls[0].replace(b"1.5", b"2.5"), *ls[1:]], 0),
    "a line repeated": (lambda ls: [*ls[:2], ls[1], *ls[2:]], 2),
    "a line lost": (lambda ls: [ls[0], *ls[2:]], 1),
    "lines exchanged": (lambda ls: [ls[0], ls[2], ls[1], ls[3]], 1),
    "a number": (lambda ls: [*ls[:3], b"3\n", ls[3]], 3),
    "not UTF-8": (lambda ls: [*ls[:3], b"\xff\xfe\n"], 3),
    "deep": (lambda ls: [ls[0], b"[" * 100_000 + b"\n"], 1),
    "empty": (lambda ls: [], 0),
    "a blank line": (lambda ls: [ls[0], b"\n", *ls[1:]], 1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_cut_off_and_made_again(path, name, caplog):
    whole = path.read_bytes()
    change, left = CHANGES[name]
    lines_with(path, change)
    journal = Journal(path)
    assert list(journal) == VALUES[:left]
    assert name == "empty" or f"line {left + 1} changed since it was written" in caplog.text
    for value in VALUES[left:]:
        journal.append(value)
    assert path.read_bytes() == whole


def test_every_flipped_bit_is_noticed(path):
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        assert len(Journal(path)) == whole[:place].count(b"\n")


def test_a_folder_of_that_name_gives_way(path):
    path.unlink()
    (path / "inside").mkdir(parents=True)
    journal = Journal(path)
    journal.append(1)
    assert list(Journal(path)) == [1]


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"", b"other"])
def test_scratch_of_another_key_or_of_junk_is_emptied(tmp_path, mark):
    folder = open_scratch(tmp_path / "scratch", "key")
    (folder / "kept").write_text("x")
    assert (open_scratch(folder, "key") / "kept").exists()
    (folder / "key").write_bytes(mark)
    assert not (open_scratch(folder, "key") / "kept").exists()
