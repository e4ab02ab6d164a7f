"""POPE: does the model say yes only to what is in the image? Li et al. 2023; protocols 5.

The public face: questions are built or read in `pope_questions`, answers read in `pope_parse` and scored in
`pope_score`; here is the command line.
"""

import argparse
import sys
from pathlib import Path

from sare_jax.evaluation import console
from sare_jax.evaluation.coco import read_truth
from sare_jax.evaluation.pope_questions import KINDS, build, read_questions, requests
from sare_jax.evaluation.pope_score import METRICS, POLICIES, score, summarise
from sare_jax.evaluation.records import read_records
from sare_jax.files import json_line, write_jsonl

__all__ = ["KINDS", "METRICS", "build", "read_questions", "requests", "score", "summarise"]


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m sare_jax.evaluation.pope build …` and `… score …`."""
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
    scorer = commands.add_parser("score", help="score answers")
    scorer.add_argument("--questions", required=True, help="question list, JSON lines or array")
    scorer.add_argument("--answers", required=True, help="records with question_id and answer (or text)")
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
    exclude = console.read_ids(options.exclude) if options.exclude else []
    questions, identity = read_questions(options.questions, exclude)
    answers, dropped = read_records(options.answers, text_key="answer")
    excluded = set(identity["excluded"])
    answers = [a for a in answers if str(a.get("question_id", a.get("id"))) not in excluded]
    result = score(
        questions, answers, unknown=options.unknown, dropped=dropped, draws=options.draws, seed=options.seed
    )
    result["questions"] |= identity
    result["settings"] |= {"answers": console.file_identity(options.answers)}
    if options.json:
        console.print_json(result)
        return
    print(f"questions: {identity['file']} sha256 {identity['sha256'][:12]} n {identity['n']}")
    if excluded:
        print(f"excluded by id: {', '.join(identity['excluded'])}")
    console.print_table("POPE, official parser", result, list(METRICS))
    console.print_table("POPE, robust parser", {**result["robust"], "dropped": {}}, list(METRICS))


if __name__ == "__main__":
    console.run(main)
