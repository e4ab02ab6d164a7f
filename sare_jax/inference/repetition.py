"""The repetition penalty of a model's generation_config.json: tokens that have occurred are less likely.

As transformers has it (`RepetitionPenaltyLogitsProcessor`; Keskar et al. 2019, CTRL): the prompt's tokens
count, image slots among them, and a logit is divided by the penalty where it is positive, else multiplied.
"""

import jax
import jax.numpy as jnp

NONE = 1.0  # the penalty that changes nothing


def occurring(tokens: jax.Array, lengths: jax.Array, vocabulary: int, penalty: float) -> jax.Array | None:
    """bool[B, V], the tokens of each prompt; None where there is no penalty.

    Args:
      tokens: int32[B, T], prompts, right-padded.
      lengths: int32[B], tokens of each prompt.
      vocabulary: V; ids beyond it are left out.
      penalty: 1 for none.
    """
    return None if penalty == NONE else _occurring(tokens, lengths, vocabulary)


def and_tails(occurred: jax.Array, tails: jax.Array, ends: jax.Array) -> jax.Array:
    """What has occurred in each of the prompts that go on from the same beginning.

    Args:
      occurred: bool[B, V], tokens of the beginnings.
      tails: int32[B, R, W], how the prompts go on, right-padded.
      ends: int32[B, R], tokens of each of these.

    Returns:
      bool[B R, V].
    """
    _, beams, width = tails.shape
    own = _occurring(tails.reshape(-1, width), ends.reshape(-1), occurred.shape[-1])
    return jnp.repeat(occurred, beams, axis=0) | own


def _occurring(tokens: jax.Array, lengths: jax.Array, vocabulary: int) -> jax.Array:
    real = jnp.arange(tokens.shape[1]) < lengths[:, None]
    rows = jnp.arange(len(tokens))[:, None]
    return (
        jnp.zeros((len(tokens), vocabulary), bool)
        .at[rows, jnp.where(real, tokens, vocabulary)]
        .set(True, mode="drop")
    )


def and_token(occurred: jax.Array | None, token: jax.Array) -> jax.Array | None:
    """What has occurred, with one further token of each row, int32[B]."""
    return None if occurred is None else occurred.at[jnp.arange(len(token)), token].set(True, mode="drop")


def penalised(logits: jax.Array, occurred: jax.Array | None, penalty: float) -> jax.Array:
    """float32[B, V], the logits, those of tokens that have occurred made smaller."""
    if occurred is None:
        return logits
    return jnp.where(occurred, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)
