"""Text metrics: one file each, which defines a `Metric`, and one line here."""

__all__ = ["METRICS"]

METRICS = {
    "chair": "sare_jax.evaluation.metrics.chair:METRIC",
    "human": "sare_jax.evaluation.human.command:METRIC",
    "pope": "sare_jax.evaluation.metrics.pope:METRIC",
    "bleu": "sare_jax.evaluation.metrics.bleu:METRIC",
    "informativeness": "sare_jax.evaluation.judging.informativeness:METRIC",
    "perplexity": "sare_jax.evaluation.metrics.perplexity:METRIC",
    "lengths": "sare_jax.evaluation.metrics.lengths:METRIC",
}
"""Short name → `module:name` of the `Metric`. The report's columns stand in this order."""
