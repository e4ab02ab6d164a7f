"""Language models behind an endpoint: what is asked, kept and asked again. Needs neither jax nor torch."""

__all__: list[str] = []
