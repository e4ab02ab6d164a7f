"""Greedy generation for a batch: prefill and decoding in one compiled function."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.load import merge
from sare_jax.models.partition import Tree


@partial(jax.jit, static_argnames=("graphdef", "max_new_tokens", "eos_id", "pad_id"))
def generate(
    graphdef: nnx.GraphDef,
    params: Tree,
    frozen: Tree,
    tokens: jax.Array,
    lengths: jax.Array,
    features: jax.Array | None,
    *,
    max_new_tokens: int,
    eos_id: int,
    pad_id: int,
) -> tuple[jax.Array, jax.Array]:
    """Continues each row with its likeliest token until EOS, or for `max_new_tokens`.

    The weights are arguments, so one compilation serves every set of weights. It ends as soon as all rows
    have. A row sees neither the other rows nor its own padding.

    Args:
      graphdef: the model's structure (`LoadedLlava.graphdef`).
      params: its trainable weights.
      frozen: its other weights.
      tokens: int32[B, T], prompts, right-padded.
      lengths: int32[B], tokens of each prompt.
      features: float[B, P, D_v], the image of each row (see `Llava.hidden`).
      max_new_tokens: N; image places and prompt do not count.
      eos_id: the token that ends a row.
      pad_id: what follows the end of a row.

    Returns:
      int32[B, N], the new tokens alone, EOS included, and int32[B], how many of them were generated.
    """
    model = merge(graphdef, params, frozen)
    batch, width = tokens.shape

    logits, cache = model.prefill(tokens, features, lengths, width + max_new_tokens)
    first = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    out = jnp.full((batch, max_new_tokens), pad_id, jnp.int32).at[:, 0].set(first)

    def unfinished(state):
        step, _, done, _, _ = state
        return (step < max_new_tokens) & ~done.all()

    def advance(state):
        step, token, done, out, cache = state
        logits, cache = model.decode(token, lengths + step - 1, cache)
        token = jnp.where(done, pad_id, jnp.argmax(logits, axis=-1).astype(jnp.int32))
        out = jax.lax.dynamic_update_slice(out, token[:, None], (jnp.int32(0), step))
        return step + 1, token, done | (token == eos_id), out, cache

    start = (jnp.int32(1), first, first == eos_id, out, cache)
    _, _, _, out, _ = jax.lax.while_loop(unfinished, advance, start)
    return out, _count(out, eos_id)


def _count(out: jax.Array, eos_id: int) -> jax.Array:
    """Tokens of each row up to its first EOS, which counts; all N where there is none."""
    ends = out == eos_id
    return jnp.where(ends.any(axis=1), jnp.argmax(ends, axis=1) + 1, out.shape[1])
