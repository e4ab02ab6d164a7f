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
      truth: annotations of the images.
      metrics: what is measured.
      answers: metric's name → list name → answered requests, of the metrics that ask questions.
      benchmarks: each with its answered requests.
      settings: what the run was asked, e.g. prompt and max_new_tokens; `compare` looks at it.
      draws: bootstrap resamples.
      seed: fixes the bootstrap's resamples.

    Returns:
      JSON-able: `n`, `settings`, `bootstrap`, the result of each metric by its name, and `benchmarks` by
      theirs; what was not measured holds a text that begins with "not measured".

    Raises:
      UserError: as the metrics do.
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
