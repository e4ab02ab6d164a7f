"""Metrics that a language model judges."""

__all__: list[str] = []
