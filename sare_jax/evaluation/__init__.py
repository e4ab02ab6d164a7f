"""Metrics and benchmarks on text, one file each, which need neither jax nor torch to start."""
