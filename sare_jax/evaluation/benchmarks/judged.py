"""Has a language model look at answers that cannot be scored without one."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sare_jax.evaluation.benchmarks.benchmark import ANSWER_KEYS, Benchmark
from sare_jax.evaluation.judging.judge import Judge
from sare_jax.evaluation.pairing import key_of, keyed, texts_of
from sare_jax.files import hash_value
from sare_jax.llm.asking import Answer, Asker
from sare_jax.records.texts import Dropped

FAILED = "judge_failed"
MODEL = "judge_model"

Announce = Callable[[Asker, list[str]], None]


def judged_answers(
    benchmark: Benchmark,
    questions: Sequence[dict],
    answers: Sequence[dict],
    judge: Judge,
    *,
    announce: Announce = lambda judge, prompts: None,
) -> list[dict]:
    """The answers with a judge's verdict on each under the benchmark's `judging.key`.

    Args:
      benchmark: what is asked and how a reply is read; one without `judging` leaves the answers as they are.
      questions: its questions; answered requests serve as both.
      answers: records with the question's id and the answer's text. One that has a verdict keeps it.
      judge: whom to ask; replies are kept on disk, and only what is missing is asked for.
      announce: called with the judge and all prompts before any is sent.

    Returns:
      A record for each answer, with the verdict and `judge_model`, or with the reason in `judge_failed`.

    Raises:
      UserError: answers to no question or to one twice (`pairing.texts_of`), or see `Asker.ask_all`.
    """
    judging = benchmark.judging
    if judging is None:
        return list(answers)
    asker: Asker[Any] = replace(judge, read=judging.read)
    known = {str(key_of(question)): question for question in questions}
    texts = texts_of(questions, answers, Dropped(), ANSWER_KEYS)
    prompts = {
        key: judging.prompt(known[key], texts[key])
        for key, answer in keyed(questions, answers)
        if judging.key not in answer and key in texts
    }
    asked = [prompt for prompt in prompts.values() if prompt]
    announce(asker, asked)
    replies = dict(zip(asked, asker.ask_all(asked, benchmark.name), strict=True))
    return [
        {**answer, **(_verdict(judging.key, judging.unasked, asker, replies.get(prompts[key])))}
        if key in prompts
        else dict(answer)
        for key, answer in keyed(questions, answers)
    ]


def _verdict(key: str, unasked: Any, asker: Asker, reply: Answer | None) -> dict[str, Any]:
    if reply is None:
        return {key: unasked}
    if reply.reason is not None:
        return {FAILED: reply.reason}
    return {key: reply.value, MODEL: reply.model or asker.endpoint.model}


def verdicts_of(verdict: str, questions: Sequence[dict], answers: Sequence[dict]) -> dict[str, Any]:
    """Verdicts by question id, which stand under that key; questions whose answer has none are absent."""
    return {key: answer[verdict] for key, answer in keyed(questions, answers) if verdict in answer}


def about_judge(
    key: str, instruction: str, answers: Sequence[dict], lacking: int
) -> tuple[dict[str, str], list[str]]:
    """What a result says of its judge.

    Args:
      key: key of the verdicts in the answers.
      instruction: what the judge was asked, before it is filled in.
      answers: answered records, those with a verdict by a judge with its name.
      lacking: number of answers without a usable verdict.

    Returns:
      `model` (the judges' names; empty where the answers name none) and `instruction` (its fingerprint), and
      one warning where verdicts are lacking.
    """
    models = sorted({str(answer[MODEL]) for answer in answers if MODEL in answer})
    about = {"model": ", ".join(models), "instruction": hash_value(instruction)[:12] if models else ""}
    if not lacking:
        return about, []
    failed = Counter(str(answer[FAILED]) for answer in answers if FAILED in answer)
    reasons = f" ({', '.join(f'{reason}: {count}' for reason, count in failed.items())})" if failed else ""
    return about, [f"{lacking} answers have no {key}{reasons} and are left out; a judge gives it"]
