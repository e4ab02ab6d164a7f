"""The pure training step, its loop and its checkpoints."""
