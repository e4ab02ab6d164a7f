"""What tokens bring along besides their embeddings."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Beside(NamedTuple):
    """What the tokens of whole rows bring along besides their embeddings.

    Attributes:
      rotary: cosine and sine of their positions, float32[B, T, 1, H / 2] each.
      added: float[B, n, T, D], what each token gets behind each of the first n layers; n may be 0, and is
        less than the number of layers.
    """

    rotary: tuple[jax.Array, jax.Array]
    added: jax.Array

    def after(self, x: jax.Array, layer: jax.Array) -> jax.Array:
        """Hidden states float[B, T, D] behind the layer with that number, with what they get there."""
        count = self.added.shape[1]
        if not count:
            return x
        here = jax.lax.dynamic_index_in_dim(self.added, jnp.minimum(layer, count - 1), axis=1, keepdims=False)
        return x + jnp.where(layer < count, here, 0)
