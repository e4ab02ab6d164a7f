"""Beam search as transformers 5 does it, each row for itself.

A step extends each of the R running beams by every token and keeps the best (1 + E)R candidates, E being the
number of end tokens, so that at least R of them have not ended. The best R of those run on. Candidates
that end and are among the R best of all join the finished beams, which are ranked by log-probability ÷
length^penalty; the R best of these are kept. A row is closed, and changes no more, when it has R finished
beams and either `early_stopping` is "yes" or no running beam can be expected to beat the worst of them; or
when all candidates have ended.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sare_jax.inference.stopping import Ending
from sare_jax.settings import DecodingConfig

# Below every score: transformers' own figure, so that ties among excluded beams fall alike.
_OUT = -1e9


class Beams(NamedTuple):
    """Sequences of one kind, R a row.

    Attributes:
      ids: int32[B, R, N], new tokens, then padding.
      scores: float32[B, R], summed log-probabilities; of finished beams, ÷ length^penalty.
      states: int32[B, R], state of the stop automaton (`Ending`).
      finished: bool[B, R], whether the beam has ended or is as long as allowed.
      ended: bool[B, R], whether an end token or a stop string ended the beam.
      counts: int32[B, R], number of new tokens.
    """

    ids: jax.Array
    scores: jax.Array
    states: jax.Array
    finished: jax.Array
    ended: jax.Array
    counts: jax.Array

    def take(self, indices: jax.Array) -> "Beams":
        """R' beams of each row, chosen by int32[B, R'] indices of its beams."""

        def gather(leaf: jax.Array) -> jax.Array:
            return jnp.take_along_axis(leaf, indices[..., None] if leaf.ndim == 3 else indices, axis=1)

        return jax.tree.map(gather, self)


class Search(NamedTuple):
    """Where a search stands.

    Attributes:
      step: int32[], tokens generated.
      running: the beams that go on.
      parents: int32[B, R], which running beam of the step before each one continues.
      best: the finished beams, best first.
      open: bool[B], rows that may still change.
    """

    step: jax.Array
    running: Beams
    parents: jax.Array
    best: Beams
    open: jax.Array


def start(batch: int, beams: int, max_new_tokens: int, pad_id: int) -> Search:
    """The search before the first token: one beam a row has a score, so step 1 makes R different ones."""
    flags, zeros = jnp.zeros((batch, beams), bool), jnp.zeros((batch, beams), jnp.int32)
    ids = jnp.full((batch, beams, max_new_tokens), pad_id, jnp.int32)
    scores = jnp.full((batch, beams), _OUT, jnp.float32)
    best = Beams(ids, scores, zeros, flags, flags, zeros)
    running = best._replace(scores=scores.at[:, 0].set(0))
    return Search(jnp.int32(0), running, zeros, best, jnp.ones(batch, bool))


def advance(
    search: Search,
    log_probs: jax.Array,
    decoding: DecodingConfig,
    ending: Ending,
) -> Search:
    """Takes one step.

    Args:
      search: where the search stands, from `start` or the step before.
      log_probs: float32[B, R, V], of the token that follows each running beam.
      decoding: its `length_penalty` and `early_stopping` are used.
      ending: end tokens and stop strings.

    Returns:
      The search one token on. Rows that are closed keep their `best`.
    """
    running, (beams, longest) = search.running, search.running.ids.shape[1:]
    kept = beams * (1 + len(ending.end_ids))
    candidates, parents = _candidates(running, log_probs, search.step, kept)
    ends, states = ending(
        jax.lax.dynamic_index_in_dim(candidates.ids, search.step, axis=2, keepdims=False), candidates.states
    )
    stops = ends | (search.step + 1 == longest)
    candidates = candidates._replace(
        states=states, finished=stops, ended=ends, counts=jnp.full_like(states, search.step + 1)
    )

    running_scores = candidates.scores + stops * jnp.float32(_OUT)
    scores, indices = jax.lax.top_k(running_scores, beams)
    chosen = candidates.take(indices)._replace(scores=scores)

    # Length powers are figures of the settings, so they are computed once and in double precision.
    powers = jnp.asarray(np.arange(longest + 1.0)[1:] ** decoding.length_penalty, jnp.float32)
    power = powers[search.step]
    whole = stops & (jnp.arange(stops.shape[1]) < beams)
    ranked = candidates._replace(
        scores=candidates.scores / power + ~whole * jnp.float32(_OUT), finished=whole
    )
    pool = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), search.best, ranked)
    best = _where(search.open, pool.take(jax.lax.top_k(pool.scores, beams)[1]), search.best)

    reach = powers[-1] if decoding.early_stopping == "never" and decoding.length_penalty > 0 else power
    expected = chosen.scores[:, 0] / reach
    full = best.finished.all(axis=1)
    better = expected > best.scores.min(axis=1)
    may_gain = ~full | (better if decoding.early_stopping != "yes" else False)
    still_open = search.open & may_gain & ~stops.all(axis=1)
    return Search(search.step + 1, chosen, jnp.take_along_axis(parents, indices, axis=1), best, still_open)


def _candidates(running: Beams, log_probs: jax.Array, step: jax.Array, kept: int) -> tuple[Beams, jax.Array]:
    """The likeliest continuations of each row's running beams, best first, and their parents."""
    batch, beams, vocabulary = log_probs.shape
    total = (log_probs + running.scores[..., None]).reshape(batch, beams * vocabulary)
    scores, flat = jax.lax.top_k(total, kept)
    parents, tokens = flat // vocabulary, (flat % vocabulary).astype(jnp.int32)
    taken = running.take(parents)
    ids = jax.lax.dynamic_update_slice(taken.ids, tokens[..., None], (0, 0, step))
    return taken._replace(ids=ids, scores=scores), parents


def _where(rows: jax.Array, new: Beams, old: Beams) -> Beams:
    def choose(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)
