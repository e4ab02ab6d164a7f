"""What cannot be written is one line that names it and the way out, and nothing is lost (case T2-29)."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import sare_jax
from sare_jax import files, stages
from sare_jax.command import guarded
from sare_jax.pipeline import Ledger, Task
from sare_jax.records.journal import Journal
from sare_jax.training import loop
from sare_jax.training.checkpoints import Checkpoints, steps_in
from sare_jax.unwritable import WriteError, writing
from tests.evaluation.small_worlds import write_coco
from tests.faults.file_limit import file_limit
from tests.test_road import tiny
from tests.training import small_run

ROOT = Path(__file__).resolve().parents[2]
WAY_OUT = "What was finished is kept, the same command goes on from here"
TOO_LARGE = "cannot be written (File too large); raise the limit"


def drafts(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.draft")]


def test_t2_29_a_stage_goes_on_when_there_is_room_again(tmp_path, capsys):
    config, workdir = tiny(stages="prepare"), tmp_path / "run"
    stages.run(config, tmp_path / "undisturbed")
    named = []
    for size in (100, 3_000, 12_000, 30_000, 50_000):
        with pytest.raises(WriteError) as caught, file_limit(size):
            stages.run(config, workdir)
        assert TOO_LARGE in str(caught.value)
        assert str(caught.value).endswith(WAY_OUT)
        assert drafts(workdir) == []
        named.append(Path(str(caught.value).partition(":")[0]).relative_to(workdir).parts[0])
    assert named == ["config.json", "config.json", "data", "data", "data"]
    stages.run(config, workdir)
    for name in ("data", "splits.json"):
        assert files.digest(workdir / name) == files.digest(tmp_path / "undisturbed" / name)


@pytest.fixture
def _no_programs_kept():
    """Or a compiled program that found no room would lie in the cache that tests share."""
    jax.config.update("jax_enable_compilation_cache", False)
    yield
    jax.config.update("jax_enable_compilation_cache", True)


@pytest.mark.usefixtures("_no_programs_kept")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Orbax's other threads
def test_a_checkpoint_without_room_leaves_the_one_before(tmp_path, capsys, caplog):
    """Threads of Orbax write it, and its error is not the system's own. Tests of checkpoints resume so."""

    def train() -> None:
        with Checkpoints(tmp_path / "steps", small_run.base(), every=2) as checkpoints:
            state, rows = small_run.first_state(), small_run.iterator()
            settings = {"checkpoints": checkpoints, "fetch_every": 1, "name": "test"}
            state = loop.run(state, rows, small_run.step, steps=2, **settings)
            with file_limit(700):
                loop.run(state, rows, small_run.step, steps=6, **settings)

    task = Task("unlearn/x", {}, (tmp_path / "out.json",), train, scratch=(tmp_path / "steps",))
    with pytest.raises(WriteError, match=r"out\.json: cannot be written \(File too large\)"):
        Ledger(tmp_path / "ledger").execute(task)
    assert steps_in(tmp_path / "steps") == [2]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_journal_keeps_the_lines_that_fitted(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("a")
    with file_limit(100), pytest.raises(WriteError, match=r"journal\.jsonl: cannot be written"):
        journal.append("b" * 100)
    assert (tmp_path / "journal.jsonl").stat().st_size == 100
    again = Journal(tmp_path / "journal.jsonl")
    again.append("b" * 100)
    assert list(Journal(tmp_path / "journal.jsonl")) == ["a", "b" * 100]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "Read-only file system"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "Disk quota exceeded"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/elsewhere"), "No space left on device"),
        (RuntimeError(f"writer: {os.strerror(errno.ENOSPC)} [os 28]"), "No space left on device"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES), "/w/out"), "Permission denied"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error"),
    ],
)
def test_the_file_that_was_being_written_is_named(error, line):
    shown = rf"^/w/out/a\.json: cannot be written \({line}\); \w+ .*{WAY_OUT}$"
    with pytest.raises(WriteError, match=shown), writing(Path("/w/out/a.json")):
        raise error


@pytest.mark.parametrize("error", [ValueError("no"), OSError(errno.EACCES, "no", "/r/in"), OSError("no")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, writing(Path("/w/out/a.json")):
        raise error
    assert caught.value is error


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(WriteError, match=r"out/a\.json: cannot be written .*choose another name"):
        files.write_text(tmp_path / "out" / "a.json", "x")


def test_what_nobody_placed_is_a_line_too(capsys):
    def command() -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), "/w/x")

    with pytest.raises(SystemExit) as stop:
        guarded(command)()
    assert stop.value.code == 2
    assert re.fullmatch(r"error: /w/x: cannot be written \(Permission denied\).*\n", capsys.readouterr().err)


def chair(tmp_path: Path, **streams) -> subprocess.CompletedProcess:
    write_coco(tmp_path / "truth", {1: ["dog"]}, {1: ["a dog"]})
    (tmp_path / "captions.jsonl").write_text('{"image_id": 1, "caption": "a dog"}\n')
    command = [sys.executable, "-m", "sare_jax.evaluation", "chair", "--truth", str(tmp_path / "truth")]
    command += ["--captions", str(tmp_path / "captions.jsonl")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, timeout=60, **streams)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_t2_29_standard_output_counts_to_its_last_byte(tmp_path):
    with Path("/dev/full").open("w") as full:
        result = chair(tmp_path, stdout=full, stderr=subprocess.PIPE)
        assert result.returncode == 2
        assert result.stderr == (
            "error: standard output: cannot be written (No space left on device); free some space there, or "
            "send it elsewhere\n"
        )
        assert chair(tmp_path, stdout=full, stderr=full).returncode == 2


def test_a_reader_that_has_gone_ends_the_command_without_a_word(tmp_path):
    reading, writing_end = os.pipe()
    os.close(reading)
    try:
        result = chair(tmp_path, stdout=writing_end, stderr=subprocess.PIPE)
    finally:
        os.close(writing_end)
    assert (result.returncode, result.stderr) == (141, "")


def test_every_command_is_guarded():
    package = Path(str(sare_jax.__file__)).parent
    commands = list(package.glob("*/__main__.py"))
    assert len(commands) >= 6
    for path in commands:
        assert re.search(r"^    launch\(", path.read_text(), re.MULTILINE), path
