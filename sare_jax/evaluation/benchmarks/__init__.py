"""Benchmarks with images and questions of their own: a file each, with its `Benchmark`, and a line here."""

__all__ = ["BENCHMARKS"]

BENCHMARKS = {
    "mme": "sare_jax.evaluation.benchmarks.mme:BENCHMARK",
    "gqa": "sare_jax.evaluation.benchmarks.gqa:BENCHMARK",
    "scienceqa": "sare_jax.evaluation.benchmarks.scienceqa:BENCHMARK",
    "qbench": "sare_jax.evaluation.benchmarks.qbench:BENCHMARK",
    "amber": "sare_jax.evaluation.benchmarks.amber:BENCHMARK",
    "hallusion": "sare_jax.evaluation.benchmarks.hallusion:BENCHMARK",
    "repope": "sare_jax.evaluation.benchmarks.repope:BENCHMARK",
    "mmhal": "sare_jax.evaluation.benchmarks.mmhal:BENCHMARK",
    "objhal": "sare_jax.evaluation.benchmarks.objhal:BENCHMARK",
}
"""Short name → `module:name` of the `Benchmark`. The report's columns stand in this order."""
