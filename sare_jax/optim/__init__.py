"""Targeted-SAM and the erasing objectives. Depends on jax and optax alone."""
