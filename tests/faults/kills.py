"""Kills a run at random moments, or damages what it made; what comes out must equal a run left alone.

    python -m tests.faults.kills --kills 50 --seed 0       a SIGKILL and a new start, again and again
    python -m tests.faults.kills --damages 15 --seed 0     one file of a finished run, and a new start

A run is killed until it ends by itself; then the next one begins from nothing, until the kills are spent.
Ends with status 1, and the names of what differs, where a value does.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sare_jax.progress import bar
from tests.faults.same_values import values

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "tests/faults/small_road.py"
UNFINISHED = ".curated_work"  # kept for a curation with other settings
# Damages that a disk, a crash or a hand does to a file.
DAMAGES = ("flip", "cut", "empty", "missing", "junk")


def main() -> None:
    """Runs what the options ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=0, help="how many times a run is killed")
    parser.add_argument("--damages", type=int, default=0, help="how many files of a finished run are damaged")
    parser.add_argument("--seed", type=int, default=0, help="starts the draws of moments and files")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(folder) / "programs"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        alone = Path(folder) / "alone"
        # Twice, since the first one compiles; the second one's time is what moments are drawn from.
        _finish(alone)
        shutil.rmtree(alone)
        start = time.monotonic()
        _finish(alone)
        seconds = time.monotonic() - start
        expected = values(alone)
        different = _killed(Path(folder), expected, seconds, options.kills, draw)
        different += _damaged(Path(folder), expected, options.damages, draw)
    print(f"{options.kills} kills, {options.damages} damages: {len(expected)} files and checkpoints compared")
    if different:
        sys.exit("\n".join(different))


def _killed(folder: Path, expected: dict[str, str], seconds: float, kills: int, draw: random.Random) -> list:
    """Kills runs until `kills` are spent; what differs in any of them, a line each.

    A stretch lasts for a third of a run at most, so that kills fall into all stages.
    """
    different, run, left = [], 0, kills
    with bar(kills, "kills", unit="kill") as progress:
        while left:
            workdir, run = folder / f"killed_{run}", run + 1
            stages: list[str] = []
            while left and not _killed_after(workdir, draw.uniform(0, seconds / 3)):
                left -= 1
                stages.append(_newest(workdir))
                progress.update(1)
            _finish(workdir)
            different += _differences(f"killed in {', '.join(stages)}", values(workdir), expected)
            shutil.rmtree(workdir)
    return different


def _damaged(folder: Path, expected: dict[str, str], damages: int, draw: random.Random) -> list[str]:
    """Damages one file of a finished run at a time; what differs after the run is called again."""
    different = []
    with bar(damages, "damages", unit="file") as progress:
        for number in range(damages):
            workdir = folder / f"damaged_{number}"
            shutil.copytree(folder / "alone", workdir)
            path = draw.choice(sorted(path for path in workdir.rglob("*") if path.is_file()))
            how = draw.choice(DAMAGES)
            _damage(path, how, draw)
            if UNFINISHED in path.relative_to(workdir).parts:
                shutil.rmtree(workdir / "curated")  # or nobody would look at what it is made from
            _finish(workdir)
            name = f"{how} {path.relative_to(workdir)}"
            different += _differences(name, values(workdir), expected)
            shutil.rmtree(workdir)
            progress.update(1)
    return different


def _command(workdir: Path) -> list[str]:
    return [sys.executable, "main.py", "--config", CONFIG, "--workdir", str(workdir)]


def _finish(workdir: Path) -> None:
    """Runs to the end; anything but success is the end of all."""
    run = subprocess.run(_command(workdir), cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{workdir.name}: ended with status {run.returncode}\n{run.stderr[-3000:]}")


def _killed_after(workdir: Path, seconds: float) -> bool:
    """Starts the run and kills it, with all that it started; whether it had ended by itself before."""
    run = subprocess.Popen(
        _command(workdir),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return run.wait(timeout=seconds) == 0
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        return False


def _damage(path: Path, how: str, draw: random.Random) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "junk":
        path.write_bytes(draw.randbytes(100))
    else:
        flipped = bytearray(content or b"\0")
        flipped[draw.randrange(len(flipped))] ^= 1
        path.write_bytes(bytes(flipped))


def _newest(workdir: Path) -> str:
    """The task that finished last before the kill."""
    records = sorted((workdir / "records").rglob("*.json"), key=lambda path: path.stat().st_mtime)
    return str(records[-1].relative_to(workdir / "records").with_suffix("")) if records else "nothing"


def _differences(name: str, found: dict[str, str], expected: dict[str, str]) -> list[str]:
    names = sorted(set(found) ^ set(expected) | {key for key in expected if found.get(key) != expected[key]})
    return [f"{name}: {key} differs" for key in names]


if __name__ == "__main__":
    main()
