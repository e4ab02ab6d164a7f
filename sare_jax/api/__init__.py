"""What `sare_jax` offers in Python, thin over the rooms; docs/python.md shows it."""

__all__: list[str] = []
