"""Flax NNX models; beside each, the table that maps its names to the Hugging Face ones."""
