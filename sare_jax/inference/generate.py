"""Generation for a batch: prefill and decoding in one compiled function."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.inference import beams, repetition
from sare_jax.inference.sampling import draw
from sare_jax.inference.stopping import Ending
from sare_jax.models.interface import Cache, merge
from sare_jax.models.shared.partition import Tree
from sare_jax.settings import GREEDY, DecodingConfig

# What is added to logits, float32[V] of 0 and -inf; 0 bars nothing.
Barred = jax.Array | float
# (tokens int32[…] of B R beams, cache) -> logits float32[…, V] of what follows, and the cache with them.
Step = Callable[[jax.Array, Cache], tuple[jax.Array, Cache]]


class Generated(NamedTuple):
    """New tokens of a batch.

    Attributes:
      ids: int32[B, N], the new tokens alone, an end token included, then padding.
      counts: int32[B], how many of them were generated.
      ended: bool[B], whether an end token or a stop string ended the row; otherwise the limit did.
    """

    ids: jax.Array
    counts: jax.Array
    ended: jax.Array


@partial(jax.jit, static_argnames=("graphdef", "max_new_tokens", "end_ids", "pad_id", "decoding", "penalty"))
def generate(
    graphdef: nnx.GraphDef,
    params: Tree,
    frozen: Tree,
    tokens: jax.Array,
    lengths: jax.Array,
    features: jax.Array | None,
    *,
    tails: jax.Array | None = None,
    ends: jax.Array | None = None,
    max_new_tokens: int,
    end_ids: tuple[int, ...],
    pad_id: int,
    decoding: DecodingConfig = GREEDY,
    numbers: jax.Array | None = None,
    allowed: jax.Array | None = None,
    opening: jax.Array | None = None,
    stops: jax.Array | None = None,
    penalty: float = repetition.NONE,
) -> Generated:
    """Continues each row until an end token, a stop string, or for `max_new_tokens`.

    The weights are arguments, so one compilation serves every set of weights. It ends as soon as all rows
    have. A row sees neither the other rows nor its own padding.

    Args:
      graphdef: the model's structure (`LoadedModel.graphdef`).
      params: trainable weights, nested dictionaries of arrays.
      frozen: all other weights, likewise.
      tokens: int32[B, T], prompts, right-padded.
      lengths: int32[B], tokens of each prompt.
      features: float[B, P, D_v], the image of each row, whose slots take the first ones.
      tails: int32[B, R, W], how R prompts go on behind each row of `tokens`, right-padded; None where each
        row is one prompt (R = 1).
      ends: int32[B, R], tokens of each of these, at least one.
      max_new_tokens: N; image slots and prompt do not count.
      end_ids: end tokens; each of them ends a row.
      pad_id: the token that fills a row behind its end.
      decoding: greedy, beams or draws; its stop strings are not read, since `stops` holds them compiled.
      numbers: int32[B R], number of each prompt's request, on which draws depend; None takes the index in
        the batch.
      allowed: bool[V], tokens that may be generated; None allows all.
      opening: bool[V], those of them that may come first; None allows all of them.
      stops: `stop_table` of the strings that end a row; None for none.
      penalty: of repetition, as `inference.repetition` has it; 1 for none, which beams need.

    Returns:
      The new tokens of B R prompts, those of a row together. With beams, those of the best one.

    Raises:
      ValueError: a penalty, or tails, with several beams.
    """
    if decoding.num_beams > 1 and (penalty != repetition.NONE or tails is not None):
        raise ValueError(f"penalty {penalty}, or tails, with {decoding.num_beams} beams")
    model = merge(graphdef, params, frozen)
    barred = 0.0 if allowed is None else jnp.where(allowed, 0.0, -jnp.inf)
    barred_first = barred if opening is None else barred + jnp.where(opening, 0.0, -jnp.inf)
    ending = Ending(end_ids, stops)
    # The last token generated is never read.
    steps = max(1, max_new_tokens - 1)
    parts, first = model.parts(), lengths[:, None]
    if tails is None or ends is None:
        together = decoding.num_beams
        logits, cache = model.prefill(tokens, features, lengths, together, steps, decoding.cache)
    else:
        together, longest = tails.shape[1:]
        _, cache = model.prefill(tokens, features, lengths, together, longest + steps, decoding.cache)
        logits, cache = model.extend(tails, lengths, ends, cache, parts)
        first = first + ends

    def step(token: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        rows = token.reshape(len(tokens), together)
        logits, cache = model.decode(rows, jnp.broadcast_to(first + cache.step, rows.shape), cache, parts)
        return logits.reshape(*token.shape, -1), cache

    if decoding.num_beams > 1:
        search = beams.start(len(tokens), decoding.num_beams, max_new_tokens, pad_id)
        return _search(search, logits, cache, step, decoding, ending, (barred_first, barred))

    logits = logits.reshape(len(tokens) * together, -1)
    numbers = jnp.arange(len(logits)) if numbers is None else numbers

    def choose(logits: jax.Array, place: jax.Array, barred: Barred, occurred: jax.Array | None) -> jax.Array:
        logits = repetition.penalised(logits, occurred, penalty)
        if decoding.temperature > 0:
            return draw(logits + barred, decoding, numbers, place)
        return model.target.likeliest(logits + barred)

    occurred = repetition.occurring(tokens, lengths, logits.shape[-1], penalty)
    if occurred is not None and tails is not None and ends is not None:
        occurred = repetition.and_tails(occurred, tails, ends)
    barring = barred_first, barred
    return _extend(choose, barring, occurred, logits, cache, step, ending, max_new_tokens, pad_id)


def _extend(
    choose: Callable[[jax.Array, jax.Array, Barred, jax.Array | None], jax.Array],
    barred: tuple[Barred, Barred],
    occurred: jax.Array | None,
    logits: jax.Array,
    cache: Cache,
    step: Step,
    ending: Ending,
    max_new_tokens: int,
    pad_id: int,
) -> Generated:
    """Generates one token after another, until every row has ended or has `max_new_tokens`.

    Args:
      choose: (logits float32[B, V], index of the new token int32[], barred, occurred) → int32[B], the new
        tokens.
      barred: what is added to the logits of the first new token, and to those of all later ones.
      occurred: bool[B, V], tokens of the prompts; None where repetition is not penalised.
      logits: float32[B, V], of the first new token.
      cache: keys and values of the prompts.
      step: reads the new tokens and gives the logits of the next ones.
      ending: end tokens and stop strings.
      max_new_tokens: N.
      pad_id: the token that fills a row behind its end.
    """
    barred_first, barred_later = barred
    batch = len(logits)
    first = choose(logits, jnp.int32(0), barred_first, occurred)
    occurred = repetition.and_token(occurred, first)
    ended, state = ending(first, jnp.zeros(batch, jnp.int32))
    ids = jnp.full((batch, max_new_tokens), pad_id, jnp.int32).at[:, 0].set(first)

    def unfinished(carry):
        place, _, _, made, _, _ = carry
        return (place < max_new_tokens) & ~made.ended.all()

    def advance(carry):
        place, token, state, made, cache, occurred = carry
        logits, cache = step(token, cache)
        token = jnp.where(made.ended, pad_id, choose(logits, place, barred_later, occurred))
        ends, state = ending(token, state)
        ids = jax.lax.dynamic_update_slice(made.ids, token[:, None], (0, place))
        made = Generated(ids, made.counts + ~made.ended, made.ended | ends)
        return place + 1, token, state, made, cache, repetition.and_token(occurred, token)

    made = Generated(ids, jnp.ones(batch, jnp.int32), ended)
    start = jnp.int32(1), first, state, made, cache, occurred
    return jax.lax.while_loop(unfinished, advance, start)[3]


def _search(
    search: beams.Search,
    logits: jax.Array,
    cache: Cache,
    step: Step,
    decoding: DecodingConfig,
    ending: Ending,
    barred: tuple[Barred, Barred],
) -> Generated:
    """Beam search; returns the best beam of each row. `barred` is as in `_extend`."""
    barred_first, barred_later = barred

    def advance(
        search: beams.Search, logits: jax.Array, cache: Cache, barred: Barred
    ) -> tuple[beams.Search, Cache]:
        log_probs = jax.nn.log_softmax(logits, axis=-1) + barred
        search = beams.advance(search, log_probs, decoding, ending)
        return search, cache.follow(search.parents)

    def go_on(carry):
        search, cache = carry
        token = jax.lax.dynamic_index_in_dim(search.running.ids, search.step - 1, axis=2, keepdims=False)
        return advance(search, *step(token, cache), barred_later)

    whole = jnp.broadcast_to(logits[:, None], (len(logits), decoding.num_beams, logits.shape[-1]))
    begun = advance(search, whole, cache, barred_first)
    search, _ = jax.lax.while_loop(lambda carry: carry[0].open.any(), go_on, begun)
    best = search.best
    return Generated(best.ids[:, 0], best.counts[:, 0], best.ended[:, 0])
