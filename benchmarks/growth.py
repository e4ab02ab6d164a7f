"""How time and memory grow with size: each job at 1, 4 and 16 times, in a process of its own.

    python -m benchmarks.growth [--jobs chair,pope,journal,report,resume]

Printed for each job and size: seconds of processor time, the peak of memory over what the process held
before the job, and the exponent between a size and the one before it (1 is linear, 2 the square). Captions
are sentences of the COCO word table, so what is measured is not what captions of a model would take, but how
it grows.
"""

import argparse
import contextlib
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sare_jax import files
from sare_jax.evaluation.evaluate import measure
from sare_jax.evaluation.metrics import chair, pope
from sare_jax.evaluation.metrics.metric import chosen, default_options
from sare_jax.inference.journal import Journal as Answers
from sare_jax.language.words import coco_table
from sare_jax.records.coco import read_truth
from sare_jax.records.journal import Journal
from sare_jax.records.pope_lists import question_for
from sare_jax.report import spec_of, write

STEPS = (1, 4, 16)
_REPORTED = 200  # captions of each run of the report


@dataclass(frozen=True)
class Job:
    """What is measured.

    Attributes:
      what: counted in the table.
      largest: size at 16 times.
      prepare: (folder, size) writes what the job reads.
      run: (folder, size) does the job.
    """

    what: str
    largest: int
    prepare: Callable[[Path, int], None]
    run: Callable[[Path, int], None]


def captions(size: int) -> Iterator[dict]:
    """Captions of about 100 words, 10 of which name objects."""
    rng, names = random.Random(0), coco_table().categories
    filling = "stands near the middle of a quiet place and looks rather old"
    for number in range(size):
        text = " ".join(f"A {name} {filling}." for name in rng.sample(names, 8))
        yield {"image_id": number, "caption": f"Picture {number}. {text}"}


def write_truth(folder: Path, size: int) -> None:
    rng, names = random.Random(1), coco_table().categories
    files.write_json(folder / "truth.json", {str(number): rng.sample(names, 4) for number in range(size)})


def prepare_chair(folder: Path, size: int) -> None:
    files.write_jsonl(folder / "captions.jsonl", captions(size))
    write_truth(folder, size)


def run_chair(folder: Path, size: int) -> None:
    silently(chair.main, ["--captions", f"{folder}/captions.jsonl", "--truth", f"{folder}/truth.json"])


def prepare_pope(folder: Path, size: int) -> None:
    names = coco_table().categories
    asked = [(number, names[number % len(names)], "yes" if number % 2 else "no") for number in range(size)]
    files.write_jsonl(
        folder / "questions.jsonl",
        (
            {
                "question_id": n,
                "image_id": n // 6,
                "image": f"{n // 6}.jpg",
                "text": question_for(o),
                "label": a,
            }
            for n, o, a in asked
        ),
    )
    files.write_jsonl(
        folder / "answers.jsonl",
        ({"question_id": n, "answer": f"{a.title()}, there is answer {n} on a {o}."} for n, o, a in asked),
    )


def run_pope(folder: Path, size: int) -> None:
    silently(
        pope.main,
        ["score", "--questions", f"{folder}/questions.jsonl", "--answers", f"{folder}/answers.jsonl"],
    )


def run_journal(folder: Path, size: int) -> None:
    """As scoring does it: batches of 16 images of 10 objects are appended, and found again."""
    journal, rng = Journal(folder / "scores.jsonl"), random.Random(0)
    for start in range(0, size, 160):
        images = range(start // 10, start // 10 + 16)
        journal.append(
            [
                {"image": f"{image}.jpg", "whole": False, "scores": [[rng.random() for _ in range(10)]]}
                for image in images
            ]
        )
    for records in Journal(folder / "scores.jsonl"):
        assert records


def prepare_report(folder: Path, size: int) -> None:
    write_truth(folder, _REPORTED)
    truth = read_truth(folder / "truth.json")
    row = measure(list(captions(_REPORTED)), truth, chosen(("chair", "lengths"), default_options()))
    for name in report_runs(size):
        files.write_json(folder / "metrics" / name / "origin.json", row)


def report_runs(size: int) -> list[str]:
    return ["base", *(f"run_{number}" for number in range(1, size))]


def run_report(folder: Path, size: int) -> None:
    write(folder, spec_of({"runs": {name: {} for name in report_runs(size)[1:]}}))


def prepare_resume(folder: Path, size: int) -> None:
    journal = Answers(folder / "out.jsonl", "key")
    journal.resume([])
    journal.append({n: {"text": f"Answer {n}. " * 30, "finish_reason": "stop"} for n in range(size)})


def run_resume(folder: Path, size: int) -> None:
    batches = [range(start, min(start + 16, size)) for start in range(0, size, 16)]
    assert len(Answers(folder / "out.jsonl", "key").resume(batches)) == size


def silently(command: Callable[[list[str]], None], arguments: list[str]) -> None:
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        command(arguments)


JOBS = {
    "chair": Job("captions", 100_000, prepare_chair, run_chair),
    "pope": Job("answers", 90_000, prepare_pope, run_pope),
    "journal": Job("objects", 200_000, lambda folder, size: None, run_journal),
    "report": Job("runs", 50, prepare_report, run_report),
    "resume": Job("lines", 100_000, prepare_resume, run_resume),
}


def measured(name: str, size: int, folder: Path) -> dict[str, float]:
    """Processor seconds and MiB of one job, in this process."""
    page = resource.getpagesize()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * page
    start = time.process_time()  # what else the machine does then matters little
    JOBS[name].run(folder, size)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "mib": max(0, peak - before) / 2**20}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", default=",".join(JOBS), help="of chair, pope, journal, report, resume")
    parser.add_argument("--one", nargs=3, metavar=("JOB", "SIZE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.one:
        name, size, folder = options.one
        print(json.dumps(measured(name, int(size), Path(folder))))
        return
    print(f"{'job':<10}{'size':>18}{'seconds':>10}{'exponent':>10}{'MiB':>8}{'exponent':>10}")
    for name in options.jobs.split(","):
        _grow(name, JOBS[name])


def _grow(name: str, job: Job) -> None:
    before: tuple[int, dict[str, float]] | None = None
    for step in STEPS:
        size = max(1, round(job.largest * step / STEPS[-1]))
        with tempfile.TemporaryDirectory() as folder:
            job.prepare(Path(folder), size)
            command = [sys.executable, "-m", "benchmarks.growth", "--one", name, str(size), folder]
            now = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        line = f"{name:<10}{f'{size} {job.what}':>18}"
        for key, form in (("seconds", "10.2f"), ("mib", "8.0f")):
            line += f"{now[key]:{form}}"
            line += f"{_exponent(before, size, now, key):>10}"
        print(line, flush=True)
        before = size, now


def _exponent(before: tuple[int, dict[str, float]] | None, size: int, now: dict[str, float], key: str) -> str:
    if not before or not before[1][key] or not now[key]:
        return ""
    return f"{math.log(now[key] / before[1][key]) / math.log(size / before[0]):.2f}"


if __name__ == "__main__":
    main()
