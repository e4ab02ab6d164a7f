"""Words: the table of COCO objects, lemmas, and what counts as English. No jax, no torch."""

__all__: list[str] = []
