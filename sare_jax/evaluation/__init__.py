"""Metrics, one file each; pure functions on text that need neither jax nor torch."""
