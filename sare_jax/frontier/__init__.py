"""A method as a curve over its weight: CHAIR_S before and after an attack against recall before it."""

__all__: list[str] = []
