"""Informativeness: how much of what is in an image its caption mentions, as a language model judges it.

Paper A.2 (a judge compares the caption with the ground truth and rates the recall of what is essential);
protocols 1.12 (what the judge is given, the scale from 1 to 100, and the form of its answer). The judge sees
no image: it is given a reference caption and the annotated categories. The wording is this project's own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap, console
from sare_jax.evaluation.columns import NOT_MEASURED, Measure, ungrouped
from sare_jax.evaluation.judging.judge import Judge, Verdict
from sare_jax.evaluation.judging.options import (
    add_judge,
    announce,
    cost,
    cost_line,
    default_cache,
    judge_of,
)
from sare_jax.evaluation.judging.parse import LOWEST, read_score
from sare_jax.evaluation.judging.rates import COLUMNS, METRICS, summarised
from sare_jax.evaluation.judging.scores import given_scores, read_scores
from sare_jax.evaluation.metrics.metric import AtHand, Metric
from sare_jax.files import hash_file, hash_value, read_json, write_jsonl
from sare_jax.llm.client import PRESETS, Endpoint, read_key
from sare_jax.records.coco import Truth, read_truth
from sare_jax.records.texts import Dropped, match_captions, read_records

References = Literal["first", "all"]
RULE = (
    "a judge rates from 1 to {scale} how much of the objects in {references} and in the list of annotated "
    "categories the caption mentions, in percent of the scale; more general words count; an empty caption "
    "gets the lowest mark unasked"
)
INSTRUCTION = """\
You check how completely a description covers the contents of a picture. You cannot see the picture; the two \
sources below say what is in it.

Source 1, written by people who saw the picture:
{references}

Source 2, the kinds of objects annotated in the picture:
{categories}

The description to check, between the marks:
<description>
{caption}
</description>

Consider every object that source 1 or source 2 names, and ask whether the description mentions it. A \
synonym, a vaguer word or a broader term for the same thing counts as a mention. Style, length, and whatever \
else the description says do not count, neither for nor against it.
Rate the coverage with a whole number from {lowest} (nothing mentioned) to {scale} (everything mentioned).
Give no reasons. Reply with exactly one line in this form:
Answer: The coverage is <number>
"""


def prompt_for(caption: str, references: Sequence[str], categories: Sequence[str], scale: int = 100) -> str:
    """The question to the judge about one caption; `categories` are those annotated in its image."""
    return INSTRUCTION.format(
        references="\n".join(f"- {' '.join(text.split())}" for text in references),
        categories=", ".join(categories) or "none annotated",
        caption=caption.strip(),
        lowest=LOWEST,
        scale=scale,
    )


def score(
    captions: list[dict],
    truth: Truth,
    ask: Callable[[list[str]], list[Verdict]],
    *,
    references: References = "first",
    scale: int = 100,
    model: str = "",
    dropped: Dropped | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Informativeness of a set of captions.

    Args:
      captions: records with `image_id` (or `image`) and `caption`.
      truth: the objects and reference captions of each image, see `records.coco.read_truth`.
      ask: the judge: questions to verdicts (`Judge.ask_all`); its scores are in percent of the scale.
      references: the first reference caption, as in the lineage, or all of them.
      scale: highest score of the scale that the question names; the lowest is 1.
      model: the judge's name, the result's `model`.
      dropped: reason → places of the records that reading the file left out.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `metric`, `informativeness` (1 to 100), `mean_words`, `empty_rate`, `n`, `failed` (questions
      without a readable answer, by reason in `dropped`), `skipped`, `dropped`, `intervals`, `rule`, `model`,
      `instruction` (a fingerprint of the wording), `tokens`, `truth`, `settings`, and `per_image`.

    Raises:
      UserError: captions that `match_captions` refuses, no reference captions at all, or no readable answer.
    """
    matched = match_captions(captions, truth, dropped)
    left_out = Dropped(matched.dropped)
    asked: list[tuple[int, str, str]] = []
    for image_id, text in zip(matched.image_ids, matched.texts, strict=True):
        told = truth.references.get(image_id, ())[: 1 if references == "first" else None]
        if not told:
            left_out.add("no reference caption", image_id)
            continue
        asked.append((image_id, text, prompt_for(text, told, truth.instances[image_id], scale)))
    if not asked:
        raise UserError(f"{truth.source}: no reference captions of these images; give them with --references")
    questions = [prompt for _, text, prompt in asked if text.strip()]
    answers = iter(ask(questions))
    empty = Verdict(100 * LOWEST / scale)
    verdicts = [next(answers) if text.strip() else empty for _, text, _ in asked]
    return summarised(asked, verdicts, left_out, draws=draws, seed=seed) | {
        "rule": RULE.format(scale=scale, references=_SAID[references]),
        "model": model,
        "instruction": hash_value(INSTRUCTION)[:12],
        "truth": truth.describe(),
        "settings": matched.settings,
    }


_SAID = {"first": "one reference caption", "all": "all reference captions"}


def read_references(path: Path | str, truth: Truth) -> Truth:
    """The truth with reference captions from a file of their own; images that it lacks are passed over.

    Args:
      path: JSON {image id: caption or list of captions}, a COCO captions file, or JSON lines with `image_id`
        and `caption`, several lines an image if need be.
      truth: the objects of each image; its own reference captions are replaced.

    Raises:
      UserError: the file cannot be read, or holds no caption of these images.
    """
    references: dict[int, list[str]] = {}
    for name, text in _references_in(Path(path)):
        image_id = truth.resolve(name)
        if image_id is not None and isinstance(text, str) and text.strip():
            references.setdefault(image_id, []).append(text.strip())
    if not references:
        raise UserError(f"{path}: no reference caption of the images in {truth.source}")
    return replace(truth, references={image_id: tuple(texts) for image_id, texts in references.items()})


def _references_in(path: Path) -> Iterator[tuple[Any, Any]]:
    try:
        content = read_json(path)
    except UserError:
        content = read_records(path)[0]
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        content = content["annotations"]
    if isinstance(content, dict) and "caption" not in content:
        for name, texts in content.items():
            yield from ((name, text) for text in (texts if isinstance(texts, list) else [texts]))
        return
    for record in content if isinstance(content, list) else [content]:
        if isinstance(record, dict):
            yield record.get("image_id", record.get("image")), record.get("caption")


def main(argv: list[str] | None = None) -> None:
    """Command line: `python -m sare_jax.evaluation informativeness`."""
    parser = console.parser("informativeness", "How much of an image its caption mentions, by a judge")
    parser.add_argument(
        "--captions", required=True, help="JSON lines of image_id and caption, or `image ### text`"
    )
    parser.add_argument("--truth", required=True, help="COCO annotations folder, or JSON {id: [category, …]}")
    parser.add_argument("--references", help="reference captions, where the truth holds none")
    parser.add_argument(
        "--use", choices=get_args(References), default="first", help="which references of an image"
    )
    parser.add_argument("--scale", type=int, default=100, help="top of the judge's scale")
    parser.add_argument("--replies", help="write every reply to this file, JSON lines")
    add_judge(parser)
    console.add_common(parser)
    options = parser.parse_args(argv)
    if options.scale <= LOWEST:
        raise UserError(f"--scale {options.scale}: the scale begins at {LOWEST} and needs room above it")
    truth = read_truth(options.truth)
    if options.references:
        truth = read_references(options.references, truth)
    captions, dropped = read_records(options.captions)
    judge = judge_of(options, partial(read_score, scale=options.scale))
    replies: dict[str, Verdict] = {}

    def ask(questions: list[str]) -> list[Verdict]:
        announce(judge, questions, options)
        verdicts = judge.ask_all(questions, "informativeness")
        replies.update(zip(questions, verdicts, strict=True))
        return verdicts

    sampling = {"draws": options.draws, "seed": options.seed}
    wording = {"references": options.use, "scale": options.scale, "model": judge.endpoint.model}
    result = score(captions, truth, ask, dropped=dropped, **wording, **sampling)
    result["settings"] |= {"captions": console.file_identity(options.captions)}
    result["cost"] = cost(result["tokens"], options)
    if options.replies:
        write_jsonl(Path(options.replies), ({"question": q, **asdict(v)} for q, v in replies.items()))
    if options.json:
        console.print_json(result)
        return
    console.print_table("INFORMATIVENESS", result, list(METRICS))
    print(f"  judge: {judge.endpoint.model} at {judge.endpoint.base_url}, {result['failed']} failed")
    print(f"  {cost_line(result['tokens'], options)}")


@dataclass(frozen=True)
class JudgeSettings:
    """The model that rates informativeness, and benchmarks' answers that need a judge; and where it is."""

    #: `deepseek` or `openai`, whose key stands in DEEPSEEK_API_KEY or OPENAI_API_KEY, or the address of
    #: another endpoint with OpenAI's chat completions, without a key; empty asks none.
    judge: str = ""
    #: The model there; empty is the present one of `deepseek` and `openai`.
    model: str = ""
    #: File of scores that some judge gave already, instead of asking one: JSON lines with `image_id` (or
    #: `image`), `caption` and `score`, from 1 to 100.
    scores: str = ""

    def check(self, where: str) -> None:
        """Refuses a judge beside scores that are there already."""
        if self.scores and self.judge:
            raise UserError(f"{where}.scores: {where}.judge would be asked for the same; give one of the two")


def judge_named(settings: JudgeSettings) -> Judge | None:
    """The judge that the settings name; None where they name none.

    Raises:
      UserError: no model is named for an address, or a preset's key is not set.
    """
    if not settings.judge:
        return None
    preset = PRESETS.get(settings.judge)
    address = preset.base_url if preset else settings.judge
    model = settings.model or (preset.model if preset else "")
    if not model:
        raise UserError(
            f"config.evaluate.options.informativeness.model: empty; name the model that {address} is to use"
        )
    key = read_key(preset.key_variable, address) if preset else ""
    return Judge(Endpoint(address, model, key), default_cache(), read_score)


def _check(settings: JudgeSettings) -> None:
    judge_named(settings)
    if settings.scores:
        read_scores(Path(settings.scores))


def _depends_on(settings: JudgeSettings) -> Any:
    if settings.scores:
        return {"scores": hash_file(Path(settings.scores))}
    return {"judge": settings.judge, "model": settings.model}


def _measure(at_hand: AtHand, settings: JudgeSettings) -> dict[str, Any] | str:
    if settings.scores:
        return given_scores(at_hand, read_scores(Path(settings.scores)))
    judge = judge_named(settings)
    if judge is None:
        return NOT_MEASURED
    if not at_hand.has_references:
        return f"{NOT_MEASURED}: no reference captions"
    return score(
        at_hand.captions,
        at_hand.truth,
        partial(judge.ask_all, name="informativeness"),
        model=judge.endpoint.model,
        draws=at_hand.draws,
        seed=at_hand.seed,
    )


METRIC = Metric(
    name="informativeness",
    title="Informativeness",
    about="coverage of the image as a judge behind an OpenAI-compatible endpoint rates it",
    measure=_measure,
    command=main,
    settings=JudgeSettings,
    check=_check,
    depends_on=_depends_on,
    counts={"informativeness": ungrouped(COLUMNS, METRICS)},
    columns=(
        Measure(
            "informativeness",
            "Info.",
            ("informativeness", "informativeness"),
            "higher",
            help="Coverage of the picture as a language model judges it, where one was asked.",
        ),
    ),
)
