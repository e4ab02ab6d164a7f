"""All that is measured of one model in one setting: a row of the result table."""

from collections.abc import Mapping, Sequence
from typing import Any

from sare_jax.evaluation import bootstrap
from sare_jax.evaluation.benchmarks.benchmark import Benchmark
from sare_jax.evaluation.metrics.metric import AtHand, Chosen
from sare_jax.records.coco import Truth
from sare_jax.records.texts import match_captions, settings_of


def measure(
    captions: list[dict],
    truth: Truth,
    metrics: Sequence[Chosen],
    *,
    answers: Mapping[str, Mapping[str, list[dict]]] | None = None,
    benchmarks: Sequence[tuple[Benchmark, list[dict]]] = (),
    settings: dict[str, Any] | None = None,
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures captions and answers; the model itself is not needed.

    Args:
      captions: records with `image_id` and `caption` (or `text`), and where known `finish_reason`, `tokens`.
      truth: the objects and reference captions of each image, see `records.coco.read_truth`.
      metrics: the metrics to measure, each with its settings.
      answers: metric's name → list name → answered requests, of the metrics that ask questions.
      benchmarks: the benchmarks to score, each with its requests and their answers' `text`.
      settings: how the model was asked, e.g. prompt and max_new_tokens; `compare` warns of differences.
      draws: how many times the bootstrap resamples the images.
      seed: starts the draw of the resamples; the same seed draws the same ones.

    Returns:
      JSON-able: `n`, `settings`, `bootstrap`, the result of each metric by its name, and `benchmarks` by
      theirs; what was not measured holds a text that begins with "not measured".

    Raises:
      UserError: a metric cannot be measured from these captions and answers; see its `score`.
    """
    matched = match_captions(captions, truth)
    results = {}
    for metric, options in metrics:
        at_hand = AtHand(captions, matched, truth, (answers or {}).get(metric.name, {}), draws, seed)
        results[metric.name] = metric.measure(at_hand, options)
    return {
        "n": len(matched.texts),
        "settings": settings_of(captions) | (settings or {}),
        "bootstrap": {"draws": draws, "seed": seed},
        **results,
        "benchmarks": {
            benchmark.name: benchmark.score(answered, answered, draws=draws, seed=seed)
            for benchmark, answered in benchmarks
        },
    }
