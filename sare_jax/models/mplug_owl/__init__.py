"""mPLUG-Owl-7B, the first version (docs/protocols.md 7.3)."""

__all__: list[str] = []
