import shutil
import signal
import subprocess
import sys
import time

import pytest

from sare_jax.errors import UserError
from sare_jax.report import ReportSpec
from sare_jax.report.follow import Source, follow


class EndedError(Exception):
    """Raised by a step in the place of Ctrl-C."""


def followed(folder, *steps):
    """What is said while the steps happen between two looks."""
    said, left = [], list(steps)

    def wait(seconds):
        assert seconds == 5
        if not left:
            raise EndedError
        left.pop(0)()

    with pytest.raises(EndedError):
        follow(folder, lambda: Source(ReportSpec(), None, None), 5, wait=wait, say=said.append)
    return said


def test_the_page_follows_the_results_and_reloads_itself(bare, tmp_path):
    folder = shutil.copytree(bare, tmp_path / "run")
    kept = tmp_path / "sare.json"
    (folder / "metrics/sare/origin.json").rename(kept)
    page = folder / "live.html"
    texts = []

    def look():
        texts.append((page.read_text(encoding="utf-8"), page.stat().st_ino))

    def add():
        shutil.copy(kept, folder / "metrics/sare/origin.json")

    said = followed(folder, look, look, add, look)
    assert [line.rpartition(": ")[2] for line in said] == ["1 results", "2 results"]
    assert texts[0] == texts[1], "nothing new, nothing written"
    assert texts[2] != texts[0]
    assert '<meta http-equiv="refresh" content="5">' in texts[2][0]
    assert "loads itself anew every 5 seconds" in texts[2][0]
    assert not (folder / "report.html").exists(), "that is the run's to write"


def test_half_a_file_leaves_the_last_page_and_is_tried_again(bare, tmp_path):
    folder = shutil.copytree(bare, tmp_path / "run")
    log = folder / "logs/sare.jsonl"
    log.parent.mkdir()
    before = []

    def half():
        before.append((folder / "live.html").read_bytes())
        log.write_text('{"step": 1, "ne', encoding="utf-8")

    def same():
        assert (folder / "live.html").read_bytes() == before[0]

    def whole():
        log.write_text('{"step": 1, "neg": 1.0}\n{"step": 2, "neg": 0.5}\n', encoding="utf-8")

    said = followed(folder, half, same, whole, lambda: None)
    assert said[1].startswith(f"not yet: {log}:1: not valid JSON")
    assert len(said) == 3
    assert 'id="training"' in (folder / "live.html").read_text(encoding="utf-8")


def test_it_waits_for_the_first_result_but_not_for_a_folder(tmp_path):
    (said,) = followed(tmp_path, lambda: None, lambda: None)
    assert said.startswith(f"not yet: {tmp_path}/metrics: no result of any run")
    with pytest.raises(UserError, match="no such folder"):
        follow(tmp_path / "none", lambda: Source(ReportSpec(), None, None), 5)


def test_ctrl_c_ends_it_with_its_status(tmp_path):
    command = [sys.executable, "-m", "sare_jax.report", str(tmp_path), "--follow", "--every", "0.1"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert started.stdout.readline().startswith("not yet: ")
    time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 130
    assert errors.startswith("interrupted")
    assert errors.count("\n") == 1
