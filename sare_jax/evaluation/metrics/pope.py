"""POPE: does the model say yes only to what is in the image? Li et al. 2023; protocols 5.

Here are the metric and its command line. Questions are built or read in `records.pope_lists`; answers are
read in `pope_parse` and scored in `pope_score`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from sare_jax.errors import UserError
from sare_jax.evaluation import console
from sare_jax.evaluation.columns import NOT_MEASURED, Measure, ungrouped
from sare_jax.evaluation.metrics.metric import AtHand, Metric, Questions
from sare_jax.evaluation.metrics.pope_score import (
    COLUMNS,
    LIST_METRICS,
    METRICS,
    POLICIES,
    score,
    summarise,
)
from sare_jax.evaluation.pairing import key_of
from sare_jax.files import write_jsonl
from sare_jax.locks import writing_into
from sare_jax.records.coco import Truth, read_truth
from sare_jax.records.pope_lists import KINDS, Kind, build, read_questions, requests
from sare_jax.records.texts import read_records
from sare_jax.settings.building import at_least

__all__ = ["KINDS", "METRICS", "build", "read_questions", "requests", "score", "summarise"]

HIGHER: Literal["higher"] = "higher"


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m sare_jax.evaluation pope build …` and `… score …`."""
    parser = console.parser("pope", "Build POPE questions, or score answers to them")
    commands = parser.add_subparsers(dest="command", required=True)
    builder = console.add_command(commands, "build", "write a question list (JSON lines)")
    builder.add_argument("--truth", required=True, help="COCO annotations folder or {id: [category, …]}")
    console.add_renamed(builder, "--annotations", "--truth")
    builder.add_argument("--kind", required=True, choices=KINDS, help="how absent objects are drawn")
    builder.add_argument("--images", type=int, default=500, help="images that are asked about (%(default)s)")
    builder.add_argument(
        "--questions-per-image",
        type=int,
        default=6,
        help="half of them on objects that are there (%(default)s)",
    )
    builder.add_argument("--seed", type=console.seed, default=0, help="of the images and objects drawn")
    builder.add_argument("--out", help="file to write; standard output where none is given")
    scorer = console.add_command(commands, "score", "score answers to one list or to several")
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
        read_truth(options.truth),
        options.kind,
        num_images=options.images,
        questions_per_image=options.questions_per_image,
        seed=options.seed,
    )
    if options.out:
        with writing_into(options.out):
            write_jsonl(Path(options.out), questions)
    else:
        for question in questions:
            console.print_json(question)


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
    _refuse_questions(answered, answers, questions)
    excluded = set(identity["excluded"])
    answers = [a for a in answers if key_of(a) not in excluded]
    result = score(
        questions, answers, unknown=options.unknown, dropped=dropped, draws=options.draws, seed=options.seed
    )
    result["questions"] |= identity
    result["settings"] |= {"answers": console.file_identity(answered)}
    return result


def _refuse_questions(path: str, answers: list[dict], questions: list[dict]) -> None:
    """Raises `UserError` where a question list stands in for the answers: its texts would count as a yes."""
    asked = {question["text"] for question in questions}
    if all(
        "label" in record
        and "answer" not in record
        and str(record.get("text", record.get("question"))) in asked
        for record in answers
    ):
        raise UserError(
            f"--answers: {path}: is a question list: labels, and no answers; give what a model said, "
            "records of question_id and answer"
        )


@dataclass(frozen=True)
class PopeSettings:
    """On how many images POPE asks, and in which words."""

    #: Images that are asked about, each for three present and three absent objects; 0 leaves POPE out.
    images: int = 500
    #: The question as it is put; {} stands for POPE's own.
    prompt: str = "{}"

    def check(self, where: str) -> None:
        """Raises `UserError` for values out of range."""
        at_least(self.images, 0, f"{where}.images")
        if "{}" not in self.prompt:
            raise UserError(f"{where}.prompt: must hold {{}} where the question goes")


def _measure(at_hand: AtHand, settings: PopeSettings) -> dict[str, Any] | str:
    if not at_hand.answers:
        return f"{NOT_MEASURED}: no answers given"
    draws, seed = at_hand.draws, at_hand.seed
    results = {
        kind: score(records, records, draws=draws, seed=seed) for kind, records in at_hand.answers.items()
    }
    return {**summarise(results, draws=draws, seed=seed), **results}


def _lists(settings: PopeSettings) -> tuple[str, ...]:
    return KINDS if settings.images else ()


def _build(truth: Truth, kind: str, image_ids: Sequence[int], settings: PopeSettings) -> list[dict]:
    return build(truth, cast(Kind, kind), num_images=settings.images, seed=0, image_ids=image_ids)


def _requests(questions: list[dict], settings: PopeSettings, prefix: str) -> list[dict]:
    return requests(questions, lambda question: (prefix + settings.prompt).replace("{}", question))


F1 = Measure(
    "pope_f1",
    "POPE F1",
    ("pope", "mean_f1"),
    "higher",
    help="Yes/no questions about present and absent objects: F1 of “yes”, the mean of the random, popular "
    "and adversarial lists.",
)

METRIC = Metric(
    name="pope",
    title="POPE",
    about="yes/no questions about present and absent objects: builds the lists, scores the answers",
    measure=_measure,
    command=main,
    settings=PopeSettings,
    depends_on=lambda settings: None,  # what is asked stands in the answers
    questions=Questions(_lists, _build, _requests, max_new_tokens=8),
    counts={"pope": ungrouped(COLUMNS, METRICS, LIST_METRICS)},
    columns=(F1,),
    detail=tuple(
        Measure(f"{kind}_{key}", f"{kind} {label}", ("pope", kind, key), better)
        for kind in KINDS
        for key, label, better in (
            ("f1", "F1", HIGHER),
            ("accuracy", "acc.", HIGHER),
            ("yes_ratio", "yes", None),
        )
    ),
    detail_title="POPE by kind of question",
    price=(F1,),
    prompted=(F1,),
    compared=(F1,),
    rules={"": "POPE F1", **{kind: f"POPE {kind}" for kind in KINDS}},
    counted={"POPE questions of each kind": tuple(("pope", kind, "n") for kind in KINDS)},
)
