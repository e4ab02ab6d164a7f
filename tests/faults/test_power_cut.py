"""A power cut at any moment: what is recorded as done is whole, and the next run ends as if nothing had been.

The disk of these tests is the worst that systems allow: it loses every content that was not synced, and
undoes every renaming whose folder was not synced since.
"""

import os
import re
import stat
from pathlib import Path

import numpy as np

from sare_jax import disk, files, stages
from sare_jax.config import parse
from sare_jax.inference.journal import Journal
from sare_jax.pipeline import Ledger, Task
from sare_jax.records.arrays import write_arrays
from tests import tiny_llava

SOURCES = Path(disk.__file__).parent


class PowerCut(BaseException):
    pass


class LosingDisk:
    """Notes what is synced and renamed, and stops the world at the given one of these calls."""

    def __init__(self, monkeypatch):
        self._contents: dict[int, bytes] = {}
        self._renamed: list[Path] = []
        self._rename = os.replace
        self.left = 10**9
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)

    def _count(self):
        self.left -= 1
        if self.left < 0:
            raise PowerCut

    def fsync(self, descriptor):
        self._count()
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            self._renamed = [renamed for renamed in self._renamed if renamed.parent != path]
        else:
            self._contents[path.stat().st_ino] = path.read_bytes()

    def replace(self, source, target):
        self._count()
        self._rename(source, target)
        self._renamed.append(Path(target))

    def cut(self, folder: Path):
        for path in self._renamed:
            files.remove(path)
        for path in folder.rglob("*"):
            if path.is_file():
                path.write_bytes(self._contents.get(path.stat().st_ino, b""))
        self._renamed.clear()


def tasks(folder: Path) -> list[Task]:
    """One for each way in which the stages write."""

    def several():
        with files.replacing(folder / "several" / "made") as draft:
            draft.mkdir()
            files.write_jsonl(draft / "a.jsonl", [{"a": i} for i in range(3)])
            np.savez(draft / "b.npz", b=np.arange(9))

    def answers():
        partial = folder / ".answers.partial"
        partial.mkdir(exist_ok=True)
        journal = Journal(partial / "answers.jsonl", "key")
        if journal.whole() is None:
            journal.resume([[0]])
            journal.append({0: {"text": "a"}})
            journal.finish([{"text": "a"}])
        files.settle(partial, folder / "answers")

    makes = {
        "value.json": lambda: files.write_json(folder / "value.json", {"value": 1}),
        "several/made": several,
        "arrays.npz": lambda: write_arrays(folder / "arrays.npz", {"x": np.ones(4)}),
        "answers": answers,
        "plain.txt": lambda: (folder / "plain.txt").write_text("written as others do"),
    }
    return [Task(f"stage/{name}", {"made": name}, (folder / name,), make) for name, make in makes.items()]


def done(folder: Path) -> dict[str, dict]:
    """The outputs of each task that is recorded as done."""
    paths = (folder / "records").rglob("*.json")
    records = {path.stem: files.read_json(path) for path in paths if path.stat().st_size}
    return {name: record["outputs"] for name, record in records.items() if record["status"] == "done"}


def test_what_is_recorded_as_done_is_whole_whenever_the_power_goes(tmp_path, monkeypatch):
    losing = LosingDisk(monkeypatch)
    whole = tmp_path / "whole"
    for task in tasks(whole):
        Ledger(whole).execute(task)
    losing.cut(whole)
    expected = done(whole)
    assert len(expected) == len(tasks(whole))
    kept = set()
    for moment in range(0, 1000, 5):
        folder = tmp_path / str(moment)
        losing.left = moment
        try:
            for task in tasks(folder):
                Ledger(folder).execute(task)
        except PowerCut:
            losing.left = 10**9
            losing.cut(folder)
        else:
            break
        recorded = done(folder)
        kept.add(len(recorded))
        for task in tasks(folder):
            for output in task.outputs:
                if output.name in recorded:
                    assert files.digest(output) == expected[output.name][output.name]
            Ledger(folder).execute(task)
        losing.cut(folder)
        assert done(folder) == expected
        assert all(files.digest(folder / task.name.removeprefix("stage/")) for task in tasks(folder))
    assert kept == set(range(len(expected)))
    assert moment > 20


def test_a_road_that_the_power_cut_ends_is_whole(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    tiny_llava.write_llava(tmp_path / "model")
    data = {"prepare": "sare_jax.demo.world:build", "split": "files"}
    data |= {"prepare_args": {"train": 3, "val": 2, "test": 2}}
    config = parse(
        {"name": "x", "stages": "prepare", "data": data, "model": {"folder": str(tmp_path / "model")}}
    )
    losing = LosingDisk(monkeypatch)
    assert stages.run(config, tmp_path / "run").executed == ["prepare/data", "prepare/splits"]
    losing.cut(tmp_path / "run")
    assert set(done(tmp_path / "run")) == {"data", "splits"}
    assert stages.run(config, tmp_path / "run").executed == []


def test_a_file_is_synced_once(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            synced.append((status.st_ino, status.st_mtime_ns))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for task in tasks(tmp_path):
        Ledger(tmp_path).execute(task)
    outputs, records = 8, 2 * len(tasks(tmp_path))
    assert len(synced) == len(set(synced)) == outputs + records


def test_nothing_becomes_final_but_in_one_place():
    renames = re.compile(r"os\.(replace|rename)\(|\.rename\(|shutil\.move\(")
    renaming = [path.name for path in SOURCES.rglob("*.py") if renames.search(path.read_text())]
    assert renaming == ["files.py"]
