"""All that is measured of one model in one setting: a row of the result table."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.benchmarks.benchmark import Benchmark
from sare_jax.evaluation.judging import informativeness
from sare_jax.evaluation.judging.judge import Judge
from sare_jax.evaluation.metrics import bleu, chair, perplexity, pope_score
from sare_jax.records.coco import Truth
from sare_jax.records.texts import Captions, match_captions, settings_of

NOT_MEASURED = "not measured"


def measure(
    captions: list[dict],
    pope: dict[str, list[dict]],
    truth: Truth,
    lm_path: str | Path | None,
    *,
    benchmarks: dict[str, tuple[Benchmark, list[dict]]] | None = None,
    judge: Judge | None = None,
    settings: dict[str, Any] | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures captions and answers; the model itself is not needed.

    Args:
      captions: records with `image_id` and `caption` (or `text`), and where known `finish_reason`, `tokens`.
      pope: by kind, answered `pope.requests`: `id`, `image_id`, `question`, `label`, `text`.
      truth: annotations of the images.
      lm_path: language model for perplexity.
      benchmarks: by name, a benchmark and its answered requests.
      judge: rates informativeness.
      settings: what the run was asked, e.g. prompt and max_new_tokens; `compare` looks at it.
      draws: bootstrap resamples.
      seed: of the bootstrap.

    Returns:
      JSON-able: `n`, `settings`, `chair`, `pope` (each kind, and `mean_f1`, `pooled_f1`), `bleu` (`word`,
      `efuf_char`), `perplexity`, `informativeness`, `lengths`, `benchmarks` (by name), each with `intervals`
      {name: [low, high]}, `rule`, `n` and `dropped`; `human`. What was not measured holds a text that begins
      with "not measured".

    Raises:
      UserError: as the metrics do: see `chair.score`, `pope_score.score`, `perplexity.score`.
    """
    sampling = {"draws": draws, "seed": seed}
    matched = match_captions(captions, truth)
    return {
        "n": len(matched.texts),
        "settings": settings_of(captions) | (settings or {}),
        "bootstrap": sampling,
        "chair": chair.score(captions, truth, **sampling),
        "pope": _pope(pope, **sampling),
        "bleu": _bleu(captions, matched, truth, **sampling),
        "perplexity": _perplexity(matched, lm_path, **sampling),
        "lengths": _lengths(captions, **sampling),
        "informativeness": _informativeness(captions, matched, truth, judge, **sampling),
        "human": NOT_MEASURED,
        "benchmarks": {
            name: benchmark.score(answers, answers, **sampling)
            for name, (benchmark, answers) in (benchmarks or {}).items()
        },
    }


def _pope(answers: dict[str, list[dict]], **sampling: int) -> dict[str, Any] | str:
    if not answers:
        return f"{NOT_MEASURED}: no answers given"
    results = {kind: pope_score.score(records, records, **sampling) for kind, records in answers.items()}
    return {**pope_score.summarise(results, **sampling), **results}


def _bleu(captions: list[dict], matched: Captions, truth: Truth, **sampling: int) -> dict[str, Any] | str:
    if not any(truth.references.get(image_id) for image_id in matched.image_ids):
        return f"{NOT_MEASURED}: no reference captions"
    return {rule: bleu.score(captions, truth, rule, **sampling) for rule in bleu.RULES}


def _perplexity(matched: Captions, lm_path: str | Path | None, **sampling: int) -> dict[str, Any] | str:
    if lm_path is None:
        return f"{NOT_MEASURED}: no language model given"
    if not any(map(str.strip, matched.texts)):  # a collapsed model still gets its row
        return f"{NOT_MEASURED}: every caption is empty"
    return perplexity.score(matched.texts, lm_path, image_ids=matched.image_ids, **sampling)


def _informativeness(
    captions: list[dict], matched: Captions, truth: Truth, judge: Judge | None, **sampling: int
) -> dict[str, Any] | str:
    if judge is None:
        return NOT_MEASURED
    if not any(truth.references.get(image_id) for image_id in matched.image_ids):
        return f"{NOT_MEASURED}: no reference captions"
    ask = partial(judge.ask_all, name="informativeness")
    return informativeness.score(captions, truth, ask, model=judge.endpoint.model, **sampling)


def _lengths(captions: list[dict], **sampling: int) -> dict[str, Any]:
    """Lengths in words and characters; where the records tell, in tokens, and the share cut off."""
    captions = [record for record in captions if isinstance(record.get("caption", record.get("text")), str)]
    texts = [record.get("caption", record.get("text")) for record in captions]
    columns = {
        "mean_words": [len(text.split()) for text in texts],
        "mean_characters": [len(text) for text in texts],
    }
    if all("tokens" in record for record in captions):
        columns["mean_tokens"] = [record["tokens"] for record in captions]
    if all("finish_reason" in record for record in captions):
        columns["cut_off_rate"] = [record["finish_reason"] == "length" for record in captions]
    counts = np.array([[1] * len(captions), *columns.values()], float).T
    metrics = {name: bootstrap.ratio(place, 0, scale=1.0) for place, name in enumerate(columns, start=1)}
    return {
        **{name: bootstrap.value(counts, metric) for name, metric in metrics.items()},
        "n": len(captions),
        "intervals": bootstrap.intervals(counts, metrics, **sampling),
        "rule": "words are separated by white space; a caption is cut off when it reached the token limit",
    }
