"""Rotary positions: cosine and sine of angles that grow with a token's position (RoFormer)."""

import jax
import jax.numpy as jnp


def rotary_at(positions: jax.Array, head_size: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of rotary positions, float32[B, T, 1, H / 2], for positions int32[B, T] (RoFormer)."""
    frequencies = theta ** (-jnp.arange(0, head_size, 2, dtype=jnp.float32) / head_size)
    angles = positions[:, :, None, None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, rotary: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates float[B, T, N, H]; element i of a head is rotated with element i + H/2 (rotate-half)."""
    cosine, sine = rotary
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return rotated.astype(x.dtype)


def rotary_of_tokens(part: jax.Array, positions: jax.Array) -> jax.Array:
    """Cosine or sine float32[1 or B, T, 1, H / 2] at int32[B, W] of the tokens -> float32[B, W, 1, H / 2]."""
    if part.shape[0] == 1:
        return part[0][positions]
    return jnp.take_along_axis(part, positions[..., None, None], axis=1)
