"""Layers, decoders, towers and readers of files that families share."""

__all__: list[str] = []
