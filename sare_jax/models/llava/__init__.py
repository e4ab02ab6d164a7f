"""LLaVA-1.5 and ShareGPT4V: a CLIP tower, a projector, and a LLaMA."""

__all__: list[str] = []
