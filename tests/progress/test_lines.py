"""Progress without a terminal: sparse lines, JSON objects, nothing."""

import json
import time

import pytest

from sare_jax import progress
from sare_jax.errors import UserError
from sare_jax.progress import lines
from sare_jax.progress.work import Count, Work, clock

SECONDS = 0.2
LINES_APART = lines.SECONDS


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(lines, "SECONDS", SECONDS)
    monkeypatch.setattr(lines, "_last", -SECONDS)
    yield
    progress.show_as("auto")


def work() -> None:
    """A second of it, in many short counts and one that waits."""
    with progress.showing():
        for place in range(20):
            with progress.stage("report", "(8 of 8)"), progress.task("report/landscape"):
                for step in progress.track(range(5), f"sare eps {place}", total=5, unit="answer"):
                    time.sleep(0.005 + 0 * step)
        print("in between")
        with (
            progress.stage("unlearn", "(4 of 8)"),
            progress.bar(37, "SARE", unit="step", waiting=progress.COMPILING) as bar,
        ):
            time.sleep(1.5 * SECONDS)
            bar.update(1)
            bar.update(11)
            bar.note("L_neg 2.31")
            time.sleep(1.5 * SECONDS)


def test_a_log_has_a_line_every_so_often_and_no_bar(capsys):
    start = time.monotonic()
    work()
    intervals = (time.monotonic() - start) / SECONDS
    out, err = capsys.readouterr()
    shown = err.splitlines()
    assert 3 <= len(shown) <= intervals
    assert "\r" not in err
    assert "\x1b" not in err
    assert shown[0].startswith("[report (8 of 8)] report/landscape: sare eps ")
    assert "/5 answer" in shown[0]
    assert any(
        line == "[unlearn (4 of 8)] SARE 0/37 step, compiling (first step) 0:00 so far" for line in shown
    )
    assert "SARE 12/37 step, 0:00 so far, 0:0" in shown[-1]
    assert shown[-1].endswith("left, L_neg 2.31")
    assert out == "in between\n"


def test_real_logs_have_ten_seconds_between_lines():
    assert LINES_APART == 10


def test_json_is_one_object_a_line_whatever_is_printed(capsys):
    progress.show_as("json")
    work()
    progress.result("a table for readers", report="report.html")
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert {event["event"] for event in events} == {"stage", "progress", "message", "result"}
    assert [event["text"] for event in events if event["event"] == "message"] == ["in between"]
    last = [event for event in events if event["event"] == "progress"][-1]
    assert last["stage"] == "unlearn (4 of 8)"
    assert last["work"][0] | {"seconds": 0, "seconds_left": 0} == {
        "name": "SARE",
        "done": 12,
        "total": 37,
        "unit": "step",
        "seconds": 0,
        "seconds_left": 0,
        "waiting": "",
        "note": "L_neg 2.31",
    }
    assert any(e["work"][0]["waiting"] == progress.COMPILING for e in events if e["event"] == "progress")
    assert events[-1]["report"] == "report.html"


def test_quiet_shows_the_result_alone(capsys):
    progress.show_as("quiet")
    work()
    progress.result("a table for readers", report="report.html")
    assert capsys.readouterr() == ("a table for readers\n", "")


def test_unknown_displays_are_refused():
    with pytest.raises(UserError, match="'loud' is not one of auto, panel, lines, json, quiet"):
        progress.show_as("loud")


def test_an_error_leaves_no_count_open():
    def broken() -> None:
        with progress.stage("curate"):
            for item in progress.track(range(3), "scores", total=3):
                raise ValueError(f"broken {item}")

    with pytest.raises(ValueError, match="broken") as caught:
        broken()
    assert caught.traceback  # which keeps the generator alive
    assert progress.shown._work.counts == []
    assert progress.shown._open == 0


def test_time_that_a_compiler_took_is_no_part_of_the_rate(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    count = Count("SARE", 101, 0, "step", progress.COMPILING)
    now[0] = 500.0
    assert count.timing == "compiling (first step) 8:20 so far"
    count.add(1)
    now[0] = 510.0
    count.add(10)
    assert count.rate == 1.0
    assert count.left == 90.0
    now[0] = 520.0
    assert count.timing == "8:40 so far, 1:20 left"


def test_words():
    assert Count("export", 13_500_000_000, 1_200_000_000, "B", "").count == "1.2/13.5 GB"
    assert Count("export", 0, 0, "B", "").count == "0.0/0.0 B"
    assert [clock(seconds) for seconds in (7, 750, 3723)] == ["0:07", "12:30", "1:02:03"]
    assert Work().line() == ""
