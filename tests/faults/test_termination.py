"""SIGTERM is as Ctrl-C in every stage and command: a line, an exit status, work that is gone on from."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from sare_jax import files
from sare_jax.command import guarded
from sare_jax.errors import Terminated
from sare_jax.pipeline import Ledger, Task
from sare_jax.records.journal import Journal

STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}
LINE = "interrupted; the same command goes on from here\n"


@pytest.fixture
def as_in_a_new_process() -> Iterator[None]:
    """Python's own answers to both signals: Ray, which other tests start, leaves another one to SIGTERM."""
    own = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    left = {number: signal.signal(number, answer) for number, answer in own.items()}
    yield
    for number, answer in left.items():
        signal.signal(number, answer)


@pytest.mark.usefixtures("as_in_a_new_process")
@pytest.mark.parametrize("number", STATUS)
def test_a_stage_goes_on_where_it_was_stopped(tmp_path, capsys, number):
    """The signal comes from another thread, while the stage writes a file."""
    before = signal.getsignal(number)
    begun = []

    def run() -> None:
        journal = Journal(tmp_path / "partial.jsonl")
        begun.append(len(journal))
        for step in range(len(journal), 4):
            journal.append(step)
            if step == 1:
                with files.replacing(tmp_path / "out.json") as draft:
                    draft.write_text("half")
                    killer = threading.Thread(target=os.kill, args=(os.getpid(), number))
                    killer.start()
                    killer.join()
        files.write_json(tmp_path / "out.json", list(journal))

    task = Task("stage/long", {}, (tmp_path / "out.json",), run, scratch=(tmp_path / "partial.jsonl",))
    with pytest.raises(SystemExit) as stop:
        guarded(Ledger(tmp_path).execute)(task)
    assert stop.value.code == STATUS[number]
    assert capsys.readouterr().err == LINE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["partial.jsonl", "records"]
    guarded(Ledger(tmp_path).execute)(task)
    assert begun == [0, 2]
    assert files.read_json(tmp_path / "out.json") == [0, 1, 2, 3]
    assert signal.getsignal(number) == before


def test_who_has_an_answer_to_sigterm_already_keeps_it():
    came = []
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    try:
        guarded(os.kill)(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [1]


SWALLOWED = """
import gc, os, time
from sare_jax.command import guarded

def collected(*_):
    gc.callbacks.remove(collected)
    os.kill(os.getpid(), {number})  # its error is raised here, where Python drops it

@guarded
def command():
    gc.callbacks.append(collected)
    gc.collect()
    print("went on", flush=True)
    time.sleep(60)
command()
"""


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_in_a_callback_of_the_garbage_collector_is_not_lost(number):
    command = [sys.executable, "-c", SWALLOWED.format(number=int(number))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (STATUS[number], "went on\n", LINE)


CAUGHT = """
import os, signal, time
from sare_jax import interruption
from sare_jax.command import guarded

@guarded
def command():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        print("went on", flush=True)
    time.sleep(60)
interruption.UNANSWERED = 0.2
command()
"""


def test_sigterm_is_sent_again_where_its_error_was_caught():
    result = subprocess.run([sys.executable, "-c", CAUGHT], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (143, "went on\n", LINE)


@pytest.mark.parametrize(
    ("interrupt", "number"), [(Terminated, signal.SIGTERM), (KeyboardInterrupt, signal.SIGINT)]
)
def test_an_error_that_a_signal_led_to_is_the_signal(capsys, interrupt, number):
    """As a module in C raises it whose import is interrupted."""

    def command() -> None:
        raise ImportError("initialization failed") from interrupt()

    with pytest.raises(SystemExit) as stop:
        guarded(command)()
    assert stop.value.code == STATUS[number]
    assert capsys.readouterr().err == LINE


def test_a_process_ends_with_the_status_of_its_signal():
    code = "import os; from sare_jax.command import guarded; guarded(os.kill)(os.getpid(), 15)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (143, "", LINE)
