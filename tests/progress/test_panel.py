"""One panel on a real terminal of 100 × 40, which leaves nothing behind."""

import pytest

from tests.progress.screen import Screen, on_terminal

NESTED = """
import time, warnings
from absl import logging
from sare_jax import progress

logging.set_verbosity(logging.WARNING)
print("before")
with progress.stage("report", "(8 of 8)"), progress.task("report/landscape"):
    for scan in progress.track(range(4), "landscape", total=4, unit="scan"):
        for point in range(9):
            with progress.bar(60, f"sare eps {point}", unit="answer", waiting=progress.COMPILING) as bar:
                time.sleep(0.03)
                for step in range(6):
                    bar.update(10)
                    bar.note("L_neg 2.31 L_pos 1.05 " * 9)
                    time.sleep(0.06 if point == 8 else 0.005)  # long enough to be drawn
        print(f"scan {scan} is done")
    logging.warning("a logged line")
    warnings.warn("a warning")
print("after")
"""


@pytest.fixture(scope="module")
def nested() -> tuple[Screen, list[str], int]:
    return on_terminal(NESTED)


def test_36_nested_bars_leave_nothing(nested):
    screen, seen, status = nested
    assert status == 0
    lines = [line for line in screen.text.splitlines() if line]
    assert lines[:5] == ["before", *(f"scan {scan} is done" for scan in range(4))]
    assert "a logged line" in lines[5]
    assert lines[-1] == "after"
    assert not [line for line in lines if set(line) & set("╭╰│━╺╸")]
    assert not screen.hidden
    shown = [state for state in seen if "╭" in state]
    assert len(shown) > 5
    assert max(state.count("╭") for state in shown) == 1
    assert max(sum("━" in line for line in state.splitlines()) for state in shown) == 2


def test_the_panel_says_stage_task_time_and_losses(nested):
    _, seen, _ = nested
    panels = [state[state.index("╭") :] for state in seen if "╭" in state and "╯" in state]
    full = next(panel for panel in panels if "left" in panel and "L_neg" in panel)
    lines = full.splitlines()
    assert "report (8 of 8) · report/landscape" in lines[0]
    assert "landscape" in lines[1]
    assert "/4 scan" in lines[1]
    assert "sare eps" in lines[2]
    assert "/60 answer" in lines[2]
    assert "━" * 5 in lines[2]
    assert "0:00 so far" in lines[2]
    assert lines[3].startswith("│ L_neg 2.31")
    assert len({len(line) for line in lines}) == 1  # a frame may come before the terminal has its size
    assert any("compiling (first step) 0:00 so far" in panel for panel in panels)


def test_an_error_inside_of_a_generator_gives_the_terminal_back():
    screen, _, status = on_terminal(
        "import time\n"
        "from sare_jax.command import guarded\n"
        "from sare_jax.errors import UserError\n"
        "from sare_jax.progress import track\n"
        "def main():\n"
        "    for item in track(range(3), 'scores', total=3):\n"
        "        time.sleep(0.4)\n"
        "        raise UserError('scores.npz: broken')\n"
        "guarded(main)()\n"
    )
    assert status == 2
    assert screen.text == "error: scores.npz: broken"
    assert not screen.hidden


def test_what_is_printed_into_a_file_stays_out_of_the_terminal(tmp_path):
    out = tmp_path / "out.txt"
    screen, _, _ = on_terminal(
        "import sys, time\n"
        f"sys.stdout = open({str(out)!r}, 'w')\n"
        "from sare_jax.progress import bar\n"
        "with bar(2, 'work'):\n"
        "    print('x' * 150)\n"
        "    time.sleep(0.3)\n"
    )
    assert out.read_text() == "x" * 150 + "\n"
    assert screen.text == ""
