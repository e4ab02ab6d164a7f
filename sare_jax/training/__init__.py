"""The pure training step, its loop and its checkpoints."""

__all__: list[str] = []
