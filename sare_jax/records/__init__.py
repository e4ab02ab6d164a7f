"""Readers and writers of the files that stages and commands share. No jax, no torch."""
