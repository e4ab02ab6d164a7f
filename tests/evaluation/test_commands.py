"""The metrics' command lines: quick to start, and one line for whatever is wrong with a file."""

import itertools
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks import (
    amber,
    gqa,
    hallusion,
    mme,
    mmhal,
    objhal,
    qbench,
    repope,
    scienceqa,
)
from sare_jax.evaluation.benchmarks.benchmark import requests
from sare_jax.evaluation.benchmarks.command import main as benchmark_main
from sare_jax.evaluation.command import main
from sare_jax.evaluation.metrics import bleu, chair, perplexity, pope
from tests.evaluation.benchmarks.small_benchmarks import (
    pairs,
    write_gqa,
    write_mme,
    write_qbench,
    write_scienceqa,
)
from tests.evaluation.benchmarks.small_judges import (
    write_amber,
    write_hallusion,
    write_mmhal,
    write_objhal,
    write_repope,
)
from tests.evaluation.small_worlds import write_coco

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = (mme, gqa, scienceqa, qbench, amber, hallusion, repope, mmhal, objhal)
HEAVY = {"torch", "jax", "transformers", "spacy", "tensorflow", "sklearn", "matplotlib"}


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """A good file of every kind, small."""
    write_coco(tmp_path / "coco", {i: ["dog", "cat"] for i in (1, 2, 3)}, {i: ["a dog"] for i in (1, 2, 3)})
    captions = [{"image_id": i, "caption": "a dog and a cup"} for i in (1, 2, 3)]
    questions = [
        {"question_id": i, "image": f"{i}.jpg", "text": "Is there a dog in the image?", "label": "yes"}
        for i in (1, 2, 3)
    ]
    answers = [{"question_id": i, "answer": "Yes"} for i in (1, 2, 3)]
    write_mme(tmp_path / "mme", {"count": pairs("a", "b")})
    write_gqa(tmp_path / "gqa", {str(i): (f"n{i}", "Is it?", "yes", "verify") for i in range(3)})
    write_scienceqa(tmp_path / "scienceqa")
    write_qbench(tmp_path / "qbench")
    amber_queries = write_amber(tmp_path / "amber") / "data" / "query"
    write_hallusion(tmp_path / "hallusion")
    write_repope(tmp_path / "repope")
    write_mmhal(tmp_path / "mmhal")
    write_objhal(tmp_path / "objhal")
    kinds = {"captions": captions, "questions": questions, "answers": answers}
    for module in BENCHMARKS:
        name = module.BENCHMARK.name
        data = amber_queries / "query_discriminative.json" if module is amber else tmp_path / name
        kinds[name] = [{**r, "text": r["label"]} for r in requests(module.BENCHMARK, data)]
    paths = {}
    for kind, rows in kinds.items():
        paths[kind] = tmp_path / f"{kind}.jsonl"
        write(paths[kind], rows)
    return paths | {"coco": tmp_path / "coco"}


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.open()]


def commands(files, lm) -> dict[str, tuple]:
    """For every file that a model's output goes into: the command that reads it."""

    def benchmark(module):
        options = ["score", "--answers", str(files[module.BENCHMARK.name]), "--json", "--draws", "5"]
        return lambda: benchmark_main(module.BENCHMARK, options)

    captions = ["--captions", str(files["captions"]), "--json", "--draws", "5"]
    scored = ["score", "--questions", str(files["questions"]), "--answers", str(files["answers"])]
    return {
        "chair": ("captions", lambda: chair.main([*captions, "--truth", str(files["coco"])])),
        "bleu": ("captions", lambda: bleu.main([*captions, "--truth", str(files["coco"])])),
        "perplexity": ("captions", lambda: perplexity.main([*captions, "--model", str(lm)])),
        "pope": ("answers", lambda: pope.main([*scored, "--json", "--draws", "5"])),
        **{m.BENCHMARK.name: (m.BENCHMARK.name, benchmark(m)) for m in BENCHMARKS},
    }


NAMES = ("chair", "bleu", "perplexity", "pope", *(module.BENCHMARK.name for module in BENCHMARKS))
ODD = (None, float("nan"), float("inf"), True, -1, 2.5, [], [1], {}, "", "x", "\ud83d", "é\x00")
KEYS = (
    "image_id",
    "caption",
    "question_id",
    "id",
    "answer",
    "text",
    "label",
    "image",
    "groups",
    "question",
    "choices",
)


def told(run, capsys) -> tuple[str, dict]:
    """What a command says: its error in one line, or its result; anything else fails."""
    message = ""
    try:
        run()
    except UserError as error:
        message = str(error)
    if message:
        assert "\n" not in message
        assert len(message) > 20
        assert capsys.readouterr().out == ""
        return message, {}
    result = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    return "", next(iter(result.values())) if "metric" not in result else result


@pytest.mark.parametrize("name", NAMES)
def test_odd_values_are_counted_or_named(name, files, lm_folder, capsys):
    kind, run = commands(files, lm_folder)[name]
    good = rows_of(files[kind])
    for key, value in itertools.product([key for key in KEYS if key in good[0]], ODD):
        write(files[kind], [{**good[0], key: value}, *good[1:]])
        error, result = told(run, capsys)
        if not error and not harmless(name, key, value):
            assert result["skipped"] or result.get("missing", {}).get("count"), (key, value)


def harmless(name: str, key: str, value) -> bool:
    """What changes a record and leaves it one: another text, an id of its own, an image nobody looks up."""
    if key in ("caption", "answer", "text", "image", "question", "label"):
        return isinstance(value, str)
    if key == "id":  # the answers of the benchmarks carry their questions
        return isinstance(value, str | int) and not isinstance(value, bool)
    if key == "groups":
        return value == {} and name not in ("mme", "hallusion", "repope", "mmhal")
    # Perplexity looks nothing up, and numbers the records; Object HalBench's objects stand in the record.
    return key == "image_id" and name in ("perplexity", "objhal")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"", "no record in it"),
        (b"\n\n", "no record in it"),
        (b"[]", "no record in it"),
        (b"{", "nothing left|no record|not valid JSON"),
        (b"[1, 2]", "record 1 is no JSON object"),
        (b"\xff\xfe\x00", "UTF|no record|neither JSON"),
        ('{"image_id": 1, "caption": "caf\u00e9"}'.encode("latin-1"), "not in UTF-8"),
        (b"{}\n{}\n", "."),
    ],
)
def test_files_without_a_record_end_in_one_line(name, content, names, files, lm_folder, capsys):
    kind, run = commands(files, lm_folder)[name]
    files[kind].write_bytes(content)
    error, _ = told(run, capsys)
    assert re.search(names, error), error


@pytest.mark.parametrize("name", NAMES)
def test_a_half_written_last_line_is_counted(name, files, lm_folder, capsys):
    kind, run = commands(files, lm_folder)[name]
    text = files[kind].read_text()
    files[kind].write_text(text.rstrip("\n")[:-3])
    error, result = told(run, capsys)
    assert error == "" or name == "mme"  # an image of MME without its second question
    if not error:
        assert result["dropped"]["half-written last line"]["which"] == [f"line {text.count(chr(10))}"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_other_encodings_with_their_mark(name, encoding, files, lm_folder, capsys):
    kind, run = commands(files, lm_folder)[name]
    before = told(run, capsys)[1]
    files[kind].write_text(files[kind].read_text(), encoding=encoding)
    assert told(run, capsys)[1]["per_image"] == before["per_image"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_left_is_one_line_and_exit_2(name, files, lm_folder):
    kind, _ = commands(files, lm_folder)[name]
    spoiled = [
        {**row, **{k: None for k in ("caption", "answer", "text") if k in row}}
        for row in rows_of(files[kind])
    ]
    write(files[kind], spoiled)
    more = {
        "chair": ["--captions", files[kind], "--truth", files["coco"]],
        "bleu": ["--captions", files[kind], "--truth", files["coco"]],
        "perplexity": ["--captions", files[kind], "--model", lm_folder],
        "pope": ["score", "--questions", files["questions"], "--answers", files[kind]],
    }.get(name, ["score", "--answers", files[kind]])
    command = [sys.executable, "-m", "sare_jax.evaluation", name, *map(str, more)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    named = f"{files[kind]}: " if name in ("chair", "bleu") else ""
    assert ended.stderr.startswith(f"error: {named}nothing left to score")
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


@pytest.mark.parametrize("draws", ["0", "-1", "many"])
def test_draws_are_a_number_above_0(draws, files, capsys):
    with pytest.raises(SystemExit) as ended:
        chair.main(["--captions", "x", "--truth", "y", "--draws", draws])
    assert ended.value.code == 2
    assert "--draws" in capsys.readouterr().err


def test_every_command_starts_quickly_without_heavy_packages(files):
    """Seconds of computing, and not of a loaded machine's clock; one process stands for all commands."""
    code = (
        "import sys, time; start = time.process_time()\n"
        "from sare_jax.evaluation.command import main\n"
        "main([])\n"  # imports the module of every command
        f"main(['chair', '--captions', {str(files['captions'])!r}, '--truth', {str(files['coco'])!r}])\n"
        "took = time.process_time() - start\n"
        f"main(['bleu', '--captions', {str(files['captions'])!r}, '--truth', {str(files['coco'])!r}])\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert took < 2, took\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_speed_of_chair_and_pope(shared_data, tmp_path):
    """1,600 captions in under 5 s and 9,000 answers in under 2 s, the programs' start included."""
    captions = rows_of(shared_data / "captions" / "llava15_greedy.jsonl")
    truth = json.loads((shared_data / "coco_gt_categories.json").read_text())
    ids = range(1, 1601)
    many = [{"image_id": i, "caption": f"{captions[i % 500]['caption']} {i}"} for i in ids]
    write(tmp_path / "captions.jsonl", many)
    known = [truth[str(record["image_id"])] for record in captions]
    (tmp_path / "truth.json").write_text(json.dumps({i: known[i % 500] for i in ids}))
    lists, answers = [], []
    for kind in pope.KINDS:
        lists.append(str(shared_data / "pope" / f"coco_pope_{kind}.json"))
        said = [
            {
                "question_id": q["question_id"],
                "answer": f"I see {q['question_id']} things, but {q['label']} dog.",
            }
            for q in rows_of(Path(lists[-1]))
        ]
        answers.append(str(tmp_path / f"{kind}.jsonl"))
        write(Path(answers[-1]), said)
    chair_command = ["chair", "--captions", "captions.jsonl", "--truth", "truth.json"]
    pope_command = ["pope", "score", "--questions", *lists, "--answers", *answers]
    for command, limit in ((chair_command, 5), (pope_command, 2)):
        code = (
            "import runpy, sys, time\n"
            f"sys.argv = ['evaluation', *{command!r}]\n"
            "runpy.run_module('sare_jax.evaluation', run_name='__main__')\n"
            f"assert time.process_time() < {limit}, time.process_time()\n"
        )
        started = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        print(command[0], round(time.monotonic() - started, 2), "s by the clock")


def test_without_a_name_the_commands_are_listed_one_a_line(capsys):
    main([])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("usage: python -m sare_jax.evaluation NAME")
    named = {line.split()[0] for line in lines}
    assert named == {*NAMES, "human", "informativeness", "compare"}


@pytest.mark.parametrize("name", [*NAMES, "human", "informativeness", "compare"])
def test_usage_says_what_was_typed(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: python -m sare_jax.evaluation {name} ")


def test_chair_names_the_file_that_holds_no_captions(files):
    with pytest.raises(UserError, match="nothing left") as refused:
        chair.main(["--captions", str(files["answers"]), "--truth", str(files["coco"])])
    assert str(refused.value).startswith(f"{files['answers']}: nothing left to score (no image id: ")


def test_unknown_names_are_told_the_way_out():
    with pytest.raises(UserError, match="'chairs' is not known; did you mean chair"):
        main(["chairs"])
    with pytest.raises(UserError, match="lengths has no command of its own"):
        main(["lengths"])
