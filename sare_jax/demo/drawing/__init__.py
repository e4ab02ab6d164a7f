"""Drawings of the demo world: a pen, a drawing for every category, a background for every scene."""

__all__: list[str] = []
