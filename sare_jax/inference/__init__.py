"""Compiled generation with a key-value cache."""

__all__: list[str] = []
