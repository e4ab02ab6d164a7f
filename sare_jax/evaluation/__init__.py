"""Metrics and benchmarks on text, one file each, which need neither jax nor torch to start."""

from typing import TYPE_CHECKING

from sare_jax.lazy import names_of

if TYPE_CHECKING:
    from sare_jax.evaluation.benchmarks.benchmark import Benchmark
    from sare_jax.evaluation.columns import Counts, Measure
    from sare_jax.evaluation.evaluate import measure
    from sare_jax.evaluation.metrics.metric import AtHand, Metric, Questions, chosen

__all__ = ["AtHand", "Benchmark", "Counts", "Measure", "Metric", "Questions", "chosen", "measure"]

__getattr__, __dir__ = names_of(
    __name__,
    {
        "Benchmark": "sare_jax.evaluation.benchmarks.benchmark",
        "Counts": "sare_jax.evaluation.columns",
        "Measure": "sare_jax.evaluation.columns",
        "measure": "sare_jax.evaluation.evaluate",
        **dict.fromkeys(("AtHand", "Metric", "Questions", "chosen"), "sare_jax.evaluation.metrics.metric"),
    },
)
