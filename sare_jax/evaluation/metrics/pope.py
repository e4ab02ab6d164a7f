"""POPE: does the model say yes only to what is in the image? Li et al. 2023; protocols 5.

The public face: questions are built or read in `pope_questions`, answers read in `pope_parse` and scored in
`pope_score`; here is the command line.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.evaluation import console
from sare_jax.evaluation.metrics.pope_score import LIST_METRICS, METRICS, POLICIES, score, summarise
from sare_jax.evaluation.pairing import key_of
from sare_jax.files import json_line, write_jsonl
from sare_jax.records.coco import read_truth
from sare_jax.records.pope_lists import KINDS, build, read_questions, requests
from sare_jax.records.texts import read_records

__all__ = ["KINDS", "METRICS", "build", "read_questions", "requests", "score", "summarise"]


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m sare_jax.evaluation.metrics.pope build …` and `… score …`."""
    parser = argparse.ArgumentParser(
        prog="pope", description="Build POPE questions, or score answers to them"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="write a question list (JSON lines)")
    builder.add_argument(
        "--annotations", required=True, help="COCO annotations folder or {id: [category, …]}"
    )
    builder.add_argument("--kind", required=True, choices=KINDS)
    builder.add_argument("--images", type=int, default=500)
    builder.add_argument("--questions-per-image", type=int, default=6)
    builder.add_argument("--seed", type=int, default=0)
    builder.add_argument("--out", help="file to write; standard output where none is given")
    scorer = commands.add_parser("score", help="score answers to one list or to several")
    scorer.add_argument("--questions", required=True, nargs="+", help="question lists, JSON lines or arrays")
    scorer.add_argument(
        "--answers",
        required=True,
        nargs="+",
        help="for each list, records with question_id and answer (or text)",
    )
    scorer.add_argument("--unknown", choices=POLICIES, default="as_wrong", help="of the robust parser")
    scorer.add_argument("--exclude", help="file of question ids to leave out, one a line")
    console.add_common(scorer)
    options = parser.parse_args(argv)
    if options.command == "build":
        _main_build(options)
    else:
        _main_score(options)


def _main_build(options: argparse.Namespace) -> None:
    questions = build(
        read_truth(options.annotations),
        options.kind,
        num_images=options.images,
        questions_per_image=options.questions_per_image,
        seed=options.seed,
    )
    if options.out:
        write_jsonl(Path(options.out), questions)
    else:
        sys.stdout.writelines(map(json_line, questions))


def _main_score(options: argparse.Namespace) -> None:
    if len(options.questions) != len(options.answers):
        raise UserError(
            f"--questions: {len(options.questions)} lists, --answers: {len(options.answers)} files; "
            "give one file of answers for each list, in the same order"
        )
    exclude = console.read_ids(options.exclude) if options.exclude else []
    results = {}
    for listed, answered in zip(options.questions, options.answers, strict=True):
        if Path(listed).stem in results:
            raise UserError(f"--questions: {listed}: two lists are called {Path(listed).stem}; rename one")
        results[Path(listed).stem] = _score_list(listed, answered, exclude, options)
    if len(results) == 1:
        (together,) = results.values()
    else:
        together = summarise(results, draws=options.draws, seed=options.seed) | results
    if options.json:
        console.print_json(together)
        return
    for result in results.values():
        identity = result["questions"]
        print(f"questions: {identity['file']} sha256 {identity['sha256'][:12]} n {identity['n']}")
        if identity["excluded"]:
            print(f"excluded by id: {', '.join(identity['excluded'])}")
        console.print_table("POPE, official parser", result, list(METRICS))
        console.print_table("POPE, robust parser", {**result["robust"], "dropped": {}}, list(METRICS))
    if len(results) > 1:
        console.print_table("POPE, all lists", {**together, "dropped": {}}, list(LIST_METRICS))


def _score_list(
    listed: str, answered: str, exclude: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    questions, identity = read_questions(listed, exclude)
    answers, dropped = read_records(answered, text_key="answer")
    excluded = set(identity["excluded"])
    answers = [a for a in answers if key_of(a) not in excluded]
    result = score(
        questions, answers, unknown=options.unknown, dropped=dropped, draws=options.draws, seed=options.seed
    )
    result["questions"] |= identity
    result["settings"] |= {"answers": console.file_identity(answered)}
    return result


if __name__ == "__main__":
    console.run(main)
