"""One process at a time in a folder; what a killed one left is recognised."""

import json
import os
import subprocess
import sys
import time

import pytest

from sare_jax import locks
from sare_jax.errors import UserError
from sare_jax.locks import locked

HOLDING = """
import sys, time
from pathlib import Path
from sare_jax.locks import locked
with locked(Path(sys.argv[1]) / ".lock", Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def take(folder):
    with locked(folder / ".lock", folder):
        return json.loads((folder / ".lock").read_text())


def test_it_names_its_holder_and_goes(tmp_path):
    assert take(tmp_path)["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_second_one_is_refused_in_one_line(tmp_path, holder):
    with pytest.raises(UserError, match=rf"another run is at work there \(process {holder.pid} on .*, since"):
        take(tmp_path)
    assert (tmp_path / ".lock").exists()


def test_a_killed_holder_does_not_keep_it(tmp_path, holder, caplog):
    holder.kill()
    holder.wait()
    assert (tmp_path / ".lock").exists()
    take(tmp_path)
    assert f"left by process {holder.pid}" in caplog.text


def left_by(folder, seconds_ago, **changes):
    path = folder / ".lock"
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere", "boot": "other", "since": "now"} | changes))
    os.utime(path, (time.time() - seconds_ago,) * 2)


def test_another_machine_keeps_it_while_it_touches_it(tmp_path):
    left_by(tmp_path, 30)
    with pytest.raises(UserError, match="process 1 on elsewhere"):
        take(tmp_path)
    left_by(tmp_path, 2 * locks.FORGOTTEN)
    take(tmp_path)


def test_this_machine_started_anew_holds_nothing(tmp_path):
    left_by(tmp_path, 0, host=locks.platform.node())
    take(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b'{"pid": {}}', b"{", b"null"])
def test_whatever_stands_in_a_lock_that_nobody_holds(tmp_path, content):
    (tmp_path / ".lock").write_bytes(content)
    take(tmp_path)


def test_where_the_system_has_no_locks_the_name_decides(tmp_path, monkeypatch, holder):
    monkeypatch.setattr(locks, "_flocked", lambda descriptor: None)
    with pytest.raises(UserError, match=f"process {holder.pid} on"):
        take(tmp_path)
    holder.kill()
    holder.wait()
    take(tmp_path)
