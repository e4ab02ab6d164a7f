"""The command line that the benchmarks share: `requests` for a model, and `score` for its answers.

`layout` writes answers as the official script reads them; `judge` has a language model look at them first,
for benchmarks that need one.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation import console
from sare_jax.evaluation.benchmarks.benchmark import ANSWER_KEYS, Benchmark, Pairs, requests
from sare_jax.evaluation.benchmarks.judged import judged_answers
from sare_jax.evaluation.judging.options import add_judge, announce, judge_of
from sare_jax.evaluation.judging.parse import read_score
from sare_jax.evaluation.pairing import key_of, texts_of
from sare_jax.files import write_jsonl, write_text
from sare_jax.locks import writing_into
from sare_jax.records.texts import read_records

_TASK = "  {:<28} {:>6} {:>9} {:>9}"


def main(benchmark: Benchmark, argv: list[str] | None = None) -> None:
    """Command line: `python -m sare_jax.evaluation NAME requests …` and `… score …`."""
    parser = console.parser(
        benchmark.name, f"{benchmark.title}: questions for a model, and scores of its answers"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    asking = console.add_command(commands, "requests", "write generation requests (JSON lines)")
    asking.add_argument("--data", required=True, help="the benchmark's file or folder, as released")
    known = " or ".join(benchmark.prompts)
    asking.add_argument("--prompt", default="official", help=f"{known}, or a text with {{}} for the question")
    asking.add_argument("--first", type=int, default=0, help="that many questions alone; EFUF takes 1600")
    asking.add_argument("--out", help="file to write; standard output where none is given")
    scoring = console.add_command(commands, "score", "score answers")
    _add_answers(scoring)
    console.add_common(scoring)
    if benchmark.layout:
        laying = console.add_command(
            commands, "layout", "write answers in the form that the official script reads"
        )
        _add_answers(laying)
        laying.add_argument("--out", required=True, help="file to write")
    if benchmark.judging:
        judging = console.add_command(
            commands, "judge", f"ask a language model for each answer's {_key(benchmark)}"
        )
        _add_answers(judging)
        judging.add_argument("--out", required=True, help="file to write, for score and layout")
        add_judge(judging)
    options = parser.parse_args(argv)
    {"requests": _ask, "score": _score, "layout": _lay_out, "judge": _judge}[options.command](
        benchmark, options
    )


def _key(benchmark: Benchmark) -> str:
    return benchmark.judging.key if benchmark.judging else ""


def _add_answers(parser: argparse.ArgumentParser) -> None:
    """Adds --answers, and where their questions are."""
    parser.add_argument(
        "--answers", required=True, help="answered requests, or records with a question's id and its text"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--questions", help="the requests, where the answers do not carry them")
    source.add_argument("--data", help="the benchmark's file or folder, likewise")


def _ask(benchmark: Benchmark, options: argparse.Namespace) -> None:
    made = requests(benchmark, Path(options.data), prompt=options.prompt, first=options.first)
    if options.out:
        with writing_into(options.out):
            write_jsonl(Path(options.out), made)
        print(f"{options.out}: {made[0]['subset']}; images are in {benchmark.images(Path(options.data))}")
    else:
        for request in made:
            console.print_json(request)


def _score(benchmark: Benchmark, options: argparse.Namespace) -> None:
    answers, dropped = benchmark.read_answers(options.answers)
    result = benchmark.score(
        _questions(benchmark, options, answers),
        answers,
        dropped=dropped,
        draws=options.draws,
        seed=options.seed,
    )
    if Path(options.answers).is_file():
        result["settings"] |= {"answers": console.file_identity(options.answers)}
    if options.json:
        console.print_json(result)
    else:
        print("\n".join(table_lines(benchmark, result)))


def _lay_out(benchmark: Benchmark, options: argparse.Namespace) -> None:
    answers, dropped = benchmark.read_answers(options.answers)
    questions = _questions(benchmark, options, answers)
    texts = texts_of(questions, answers, dropped, ANSWER_KEYS)
    pairs: Pairs = [(question, texts.get(str(key_of(question)))) for question in questions]
    try:
        text = benchmark.layout(pairs) if benchmark.layout else ""
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{options.answers}: its questions are not in the form of {benchmark.name} ({error}); give --data"
        ) from None
    with writing_into(options.out):
        write_text(Path(options.out), text)
    print(f"{options.out}: {len(texts)} of {len(questions)} questions with an answer")


def _judge(benchmark: Benchmark, options: argparse.Namespace) -> None:
    answers, _ = benchmark.read_answers(options.answers)
    judged = judged_answers(
        benchmark,
        _questions(benchmark, options, answers),
        answers,
        judge_of(options, read_score),  # whose reader judged_answers replaces by the benchmark's
        announce=partial(announce, options=options),
    )
    with writing_into(options.out):
        write_jsonl(Path(options.out), judged)
    lacking = sum(_key(benchmark) not in record for record in judged)
    print(f"{options.out}: {len(judged)} answers, {lacking} without a {_key(benchmark)}")


def _questions(benchmark: Benchmark, options: argparse.Namespace, answers: list[dict]) -> list[dict]:
    """The questions to score: from `--questions` or `--data`, else those that the answers carry."""
    if options.questions:
        questions, broken = read_records(options.questions)
        if broken:
            raise UserError(f"{options.questions}: its last line is half-written; make the requests again")
        lacking = [place for place, q in enumerate(questions, start=1) if not _whole(q)]
        if lacking:
            raise UserError(f"{options.questions}: record {lacking[0]} is no request of {benchmark.name}")
        return questions
    if options.data:
        return _of_data(benchmark.read(Path(options.data)), answers)
    lacking = [place for place, answer in enumerate(answers, start=1) if not _whole(answer)]
    if lacking:
        raise UserError(
            f"{options.answers}: record {lacking[0]} has no question and label; give --questions or --data"
        )
    return list({key_of(answer): answer for answer in answers}.values())


def _whole(record: dict) -> bool:
    return key_of(record) is not None and all(key in record for key in ("question", "label", "groups"))


def _of_data(questions: list[dict], answers: list[dict]) -> list[dict]:
    """All questions; only those with an image where no question without one was answered."""
    pictured = [question for question in questions if "image" in question]
    asked = {key_of(answer) for answer in answers}
    if len(pictured) == len(questions) or any(q["id"] in asked for q in questions if "image" not in q):
        return questions
    subset = f"the {len(pictured)} of {len(questions)} questions that have an image"
    return [{**question, "subset": subset} for question in pictured]


def table_lines(benchmark: Benchmark, result: dict[str, Any]) -> list[str]:
    """A result as lines of text: its numbers, prompt and subset, then tasks or groups."""
    lines = console.table_lines(benchmark.title, result, list(benchmark.shown))
    lines.append(f"  prompt: {result['prompt']['template']!r}")
    lines.append(f"  subset: {result['subset']}")
    if "tasks" in result:
        lines.append(_TASK.format("task", "images", "score", "robust"))
        for name, task in result["tasks"].items():
            numbers = (f"{task['score']:.2f}", f"{task['score_robust']:.2f}")
            lines.append(_TASK.format(name, task["images"], *numbers))
    for dimension, groups in result.get("by", {}).items():
        names = [name for name in next(iter(groups.values())) if name != "n"]
        shown = [name.removeprefix("accuracy_") for name in names]
        lines.append(_group_line(dimension, "n", shown))
        for name, group in groups.items():
            lines.append(_group_line(f"  {name}", group["n"], [f"{group[key]:.2f}" for key in names]))
    return lines


def _group_line(name: str, count: object, numbers: list[str]) -> str:
    return f"  {name:<28} {count:>6}" + "".join(f" {number:>9}" for number in numbers)
