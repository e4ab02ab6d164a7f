"""Pictures are known by what is in them; what was read once is looked at only."""

import os

import pytest

from sare_jax.data import contents as module
from sare_jax.data.contents import Contents
from tests.faults.mutate import DAMAGES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_YOUNG", 0)  # so that files of this moment are kept as old ones are
    (tmp_path / "images").mkdir()
    for i in range(4):
        (tmp_path / "images" / f"{i}.png").write_bytes(bytes([i]) * 100)
    return tmp_path / "images"


@pytest.fixture
def read(monkeypatch):
    names = []
    real = module._hash

    def noting(path):
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(module, "_hash", noting)
    return names


NAMES = [f"{i}.png" for i in range(4)]


def test_each_file_is_read_once_until_it_changes(folder, tmp_path, read):
    kept = tmp_path / "kept.json"
    first = Contents(kept).hash(folder, NAMES)
    assert sorted(read) == NAMES
    again = Contents(kept)
    assert again.hash(folder, NAMES) == again.hash(folder, NAMES) == first
    assert sorted(read) == NAMES
    os.utime(folder / "1.png")
    assert Contents(kept).hash(folder, NAMES) == first
    assert read[4:] == ["1.png"]
    assert Contents(tmp_path / "other.json").hash(folder, NAMES[::-1]) != first


def test_other_content_of_the_same_size_and_time_is_noticed(folder, tmp_path, read):
    kept = tmp_path / "kept.json"
    first = Contents(kept).hash(folder, NAMES)
    times = (folder / "2.png").stat()
    (folder / "2.png").write_bytes(b"x" * 100)
    os.utime(folder / "2.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = Contents(kept).hash(folder, NAMES)
    assert changed != first
    assert read[4:] == ["2.png"]
    (folder / "3.png").unlink()
    missing = Contents(kept).hash(folder, NAMES)
    assert len({first, changed, missing, Contents(kept).hash(folder, NAMES[:3])}) == 4
    assert Contents(kept).hash(folder, ["a\0b", "n" * 5000, ".", "../images/0.png"])


def test_what_changed_just_now_is_read_again(folder, tmp_path, read, monkeypatch):
    monkeypatch.setattr(module, "_YOUNG", 10**12)
    for _ in range(2):
        Contents(tmp_path / "kept.json").hash(folder, NAMES)
    assert sorted(read) == sorted(2 * NAMES)


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_hashes_that_cannot_be_trusted_are_made_again(folder, tmp_path, read, damage, caplog):
    kept = tmp_path / "kept.json"
    first = Contents(kept).hash(folder, NAMES)
    whole = kept.read_bytes()
    DAMAGES[damage](kept)
    assert Contents(kept).hash(folder, NAMES) == first
    assert sorted(read) == sorted(2 * NAMES)
    assert [message.endswith("read again") for message in caplog.messages] == [True] * (damage != "missing")
    assert kept.read_bytes() == whole
