"""The embedded default: a small world whose truth is known, its models, and the scripts that made them."""

__all__: list[str] = []
