"""A task's record that cannot be read means that the task is not done, whatever stands there."""

import pytest

from sare_jax import files
from sare_jax.pipeline import Ledger, Task

BAD = {
    "not UTF-8": b"\xff\xfe",
    "a list": b"[1]",
    "a number": b"3.5",
    "nothing": b"null",
    "a text": b'"done"',
    "no key": b'{"status": "done", "outputs": {}}',
    "no status": b"{}",
    "outputs are null": b'{"status": "done", "key": "KEY", "outputs": null}',
    "outputs are a list": b'{"status": "done", "key": "KEY", "outputs": ["out.json"]}',
    "outputs are numbers": b'{"status": "done", "key": "KEY", "outputs": {"out.json": 1}}',
    "key is a list": b'{"status": "done", "key": ["KEY"], "outputs": {}}',
    "deep": b"[" * 100_000,
    "long number": b"9" * 5000,
    "cut": b'{"status": "do',
    "empty": b"",
}


def task(folder, calls) -> Task:
    output = folder / "out.json"

    def run():
        calls.append(1)
        files.write_json(output, {"value": 1})

    return Task("stage/thing", {"value": 1}, (output,), run)


@pytest.mark.parametrize("name", [*BAD, "a folder"])
def test_it_is_said_and_done_again(tmp_path, name, caplog):
    calls = []
    Ledger(tmp_path).execute(task(tmp_path, calls))
    record = tmp_path / "records" / "stage" / "thing.json"
    whole = record.read_bytes()
    if name in BAD:
        key = files.read_json(record)["key"]
        record.write_bytes(BAD[name].replace(b"KEY", key.encode()))
    else:
        record.unlink()
        (record / "inside").mkdir(parents=True)
    for _ in range(2):
        Ledger(tmp_path).execute(task(tmp_path, calls))
    assert calls == [1, 1]
    assert {**files.read_json(record), "seconds": 0} == {**files.parse_json(whole, "record"), "seconds": 0}
    assert len([line for line in caplog.messages if "is done again" in line]) <= 1
