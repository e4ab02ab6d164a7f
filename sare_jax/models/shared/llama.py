"""LLaMA: RMSNorm, rotary positions (rotate-half), grouped-query attention, SwiGLU.

Its relatives differ in what stands between the products and the heads (`HeadModules`), and in what tokens
bring along besides their embeddings (`Beside`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.shared.attention import attention_at, causal_attention
from sare_jax.models.shared.config import TextConfig
from sare_jax.models.shared.gather import pick
from sare_jax.models.shared.layers import Linear, RMSNorm, Stack, gathered
from sare_jax.models.shared.target import Target

KeysValues = tuple[jax.Array, jax.Array]
# (shapes, stack) → what queries, keys and values float[..., N, H] go through before they are rotated; None
# where they stay as the products give them.
HeadModules = Callable[[TextConfig, Stack], tuple[Any, Any, Any]]


class Beside(NamedTuple):
    """What the tokens of whole rows bring along besides their embeddings.

    Attributes:
      rotary: cosine and sine of their positions, float32[B, T, 1, H / 2] each.
      added: float[n, B, T, D], what each token gets behind each of the first n layers; n may be 0, and is
        less than the number of layers.
    """

    rotary: tuple[jax.Array, jax.Array]
    added: jax.Array

    def after(self, x: jax.Array, layer: jax.Array) -> jax.Array:
        """Hidden states float[B, T, D] behind the layer with that number, with what they get there."""
        count = len(self.added)
        if not count:
            return x
        return x + jnp.where(layer < count, _layer(self.added, jnp.minimum(layer, count - 1)), 0)


def _no_modules(config: TextConfig, stack: Stack) -> tuple[None, None, None]:
    del config, stack
    return None, None, None


class Cache(NamedTuple):
    """Keys and values of the tokens read so far, of B prompts and R continuations ("beams") of each.

    The prompt's are kept once for all its beams. A step adds one token a beam; those of all beams of a row
    lie side by side, and `visible` says which of them are a beam's own past. So beams may be reordered,
    copied and dropped without moving a key: only `visible` is permuted. Slots lie inside heads, so that a
    step's products run over contiguous memory.

    Attributes:
      prompt_keys: for each part of the layers (see `Llama.parts`), float[l, B, K, T, H], rotated.
      prompt_values: the prompts' values, in the shapes of `prompt_keys`.
      keys: for each part float[l, B, K, S, H] of the generated tokens, S = R times the steps; step t fills
        the slots from t·R.
      values: the generated tokens' values, in the shapes of `keys`.
      visible: bool[B, R, T + S], the slots that a beam's query may see, first the prompt's.
      step: int32[], steps taken.
    """

    prompt_keys: tuple[jax.Array, ...]
    prompt_values: tuple[jax.Array, ...]
    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    visible: jax.Array
    step: jax.Array

    def follow(self, parents: jax.Array) -> "Cache":
        """The cache in which beam r of a row goes on from what was beam `parents[row, r]`, int32[B, R]."""
        return self._replace(visible=jnp.take_along_axis(self.visible, parents[..., None], axis=1))


class DecoderLayer(nnx.Module):
    """One block; parameters stacked [L, ...]."""

    def __init__(
        self, config: TextConfig, target: Target, heads: HeadModules = _no_modules, *, rngs: nnx.Rngs
    ):
        width, stack = config.width, (config.num_layers,)
        queries = config.num_heads * config.head_size
        keys = config.num_kv_heads * config.head_size
        self.attention_norm = RMSNorm(width, config.eps, stack=stack)
        self.q = Linear(width, queries, stack=stack, rngs=rngs)
        self.k = Linear(width, keys, stack=stack, rngs=rngs)
        self.v = Linear(width, keys, stack=stack, rngs=rngs)
        self.on_q, self.on_k, self.on_v = heads(config, stack)
        self.out = Linear(queries, width, stack=stack, rngs=rngs)
        self.mlp_norm = RMSNorm(width, config.eps, stack=stack)
        self.gate = Linear(width, config.mlp, stack=stack, rngs=rngs)
        self.up = Linear(width, config.mlp, stack=stack, rngs=rngs)
        self.down = Linear(config.mlp, width, stack=stack, rngs=rngs)
        self.head_size = config.head_size
        self.target = target

    def __call__(self, x: jax.Array, rotary: tuple[jax.Array, jax.Array]) -> jax.Array:
        """One layer over whole rows, each token seeing itself and those before.

        Args:
          x: float[B, T, D].
          rotary: cosine and sine of the positions, from `rotary_at`.
        """
        q, k, v = self._project(x, rotary)
        return self._finish(x, jax.nn.dot_product_attention(q, k, v, is_causal=True))

    def read(
        self, x: jax.Array, rotary: tuple[jax.Array, jax.Array], past: tuple[jax.Array, jax.Array] | None
    ) -> jax.Array:
        """As `__call__`, with tokens before the rows.

        Args:
          x: float[B, T, D].
          rotary: cosine and sine of the rows' positions, which follow those of the prefix.
          past: keys and values of a prefix that all rows share, float[1, P, K, H] each; None without one.
        """
        q, k, v = self._project(x, rotary)
        return self._finish(x, causal_attention(q, *_behind(past, k, v), self.target))

    def read_at(
        self,
        x: jax.Array,
        rotary: tuple[jax.Array, jax.Array],
        past: tuple[jax.Array, jax.Array] | None,
        positions: jax.Array,
    ) -> jax.Array:
        """As `read`, but queries, output and MLP are computed for some tokens alone.

        Args:
          x: float[B, T, D].
          rotary: as in `read`.
          past: as in `read`.
          positions: int32[B, W], indices of these tokens in their rows, without the prefix.

        Returns:
          float[B, W, D].
        """
        normal = self.attention_norm(x)
        k = _rotate(self._heads(self.k, self.on_k, normal), rotary)
        k, v = _behind(past, k, self._heads(self.v, self.on_v, normal))
        x = pick(x, positions)
        cosine, sine = (_at(part, positions) for part in rotary)
        q = self._heads(self.q, self.on_q, self.attention_norm(x))
        ahead = k.shape[1] - rotary[0].shape[1]
        return self._finish(x, attention_at(_rotate(q, (cosine, sine)), k, v, positions + ahead))

    def prefill(
        self, x: jax.Array, rotary: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """As `__call__`, and the layer's keys and values, float[B, T, K, H]."""
        q, k, v = self._project(x, rotary)
        return self._finish(x, causal_attention(q, k, v, self.target)), k, v

    def decode(
        self,
        x: jax.Array,
        rotary: tuple[jax.Array, jax.Array],
        prompt: KeysValues,
        new: KeysValues,
        place: tuple[jax.Array, jax.Array],
        visible: jax.Array,
    ) -> tuple[jax.Array, KeysValues]:
        """One layer for one new token a beam.

        Args:
          x: float[B, R, D].
          rotary: cosine and sine of the positions.
          prompt: the layer's keys and values of the prompts, float[B, K, T, H].
          new: keys and values of the generated tokens, float[l, B, K, S, H], of several layers.
          place: where these tokens' keys and values go: which of those layers this is, and the first slot.
          visible: bool[B, R, T + S], the slots that each beam may see.

        Returns:
          float[B, R, D], and `new` with these tokens in it.
        """
        q, k, v = self._project(x, rotary)
        new = _store(new[0], k, *place), _store(new[1], v, *place)
        keys, values = zip(prompt, (_layer(part, place[0]) for part in new), strict=True)
        q = q.reshape(*q.shape[:2], keys[0].shape[1], -1, self.head_size) * self.head_size**-0.5
        parts = [jnp.einsum("BRKGH,BKSH->BKRGS", q, k, preferred_element_type=jnp.float32) for k in keys]
        scores = jnp.concatenate(parts, axis=-1)
        scores = jnp.where(visible[:, None, :, None], scores, jnp.finfo(jnp.float32).min)
        weights = jnp.split(jax.nn.softmax(scores, axis=-1).astype(x.dtype), [keys[0].shape[2]], axis=-1)
        of_prompt, of_new = (
            jnp.einsum("BKRGS,BKSH->BRKGH", w, v, preferred_element_type=jnp.float32)
            for w, v in zip(weights, values, strict=True)
        )
        return self._finish(x, (of_prompt + of_new).astype(x.dtype)), new

    def _project(
        self, x: jax.Array, rotary: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = self.attention_norm(x)
        parts = ((self.q, self.on_q), (self.k, self.on_k), (self.v, self.on_v))
        q, k, v = (self._heads(project, module, x) for project, module in parts)
        return _rotate(q, rotary), _rotate(k, rotary), v

    def _heads(self, project: Linear, module: Any, x: jax.Array) -> jax.Array:
        """float[..., D] -> float[..., N, H], and through what stands behind the product."""
        heads = project(x).reshape(*x.shape[:-1], -1, self.head_size)
        return heads if module is None else module(heads)

    def _finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        x = x + self.out(attended.reshape(*x.shape[:-1], -1))
        normal = self.mlp_norm(x)
        return x + self.down(jax.nn.silu(self.gate(normal)) * self.up(normal))


class Llama(nnx.Module):
    """The decoder between the embedding table and the head, final norm included."""

    def __init__(
        self, config: TextConfig, target: Target, heads: HeadModules = _no_modules, *, rngs: nnx.Rngs
    ):
        self.layers = DecoderLayer(config, target, heads, rngs=rngs)
        self.norm = RMSNorm(config.width, config.eps)
        self.config = config
        self.target = target

    def __call__(self, x: jax.Array, remat_policy: Callable[..., bool] | None = None) -> jax.Array:
        """float[B, T, D] embeddings -> float[B, T, D] hidden states; positions count from 0 in each row.

        Right padding needs no mask: a token sees only those before it, so nothing depends on the padding.

        Args:
          x: embeddings.
          remat_policy: what `jax.checkpoint` may keep of a layer for the backward pass, for instance
            `jax.checkpoint_policies.dots_with_no_batch_dims_saveable`; None keeps everything.
        """
        rotary = self._rotary(jnp.arange(x.shape[1])[None])

        def run(x: jax.Array, layer: DecoderLayer) -> tuple[jax.Array, None]:
            return gathered(layer)(x, rotary), None

        if remat_policy is not None:
            # The loop already keeps XLA from merging the second computation with the first.
            run = jax.checkpoint(run, policy=remat_policy, prevent_cse=False)
        x, _ = jax.lax.scan(run, x, self.layers)
        return self.norm(x)

    def read(
        self,
        x: jax.Array,
        positions: jax.Array,
        prefix: jax.Array | None = None,
        remat_policy: Callable[..., bool] | None = None,
        depth: int | None = None,
        beside: Beside | None = None,
    ) -> jax.Array:
        """Hidden states at some positions of each row, for training.

        The last layer's queries, output and MLP run on these positions alone. The keys and values of a text
        before all rows are computed once, and no gradient passes through them.

        Args:
          x: float[B, T, D], embeddings.
          positions: int32[B, W].
          prefix: float[1, P, D], embeddings of the tokens before every row.
          remat_policy: as in `__call__`.
          depth: layers to run, from 1 to all; None runs all, and the final norm.
          beside: what the rows' tokens bring along, their positions counted with the prefix; None for
            positions that count on.

        Returns:
          float[B, W, D].
        """
        past = None if prefix is None else self._past(prefix)
        ahead = 0 if prefix is None else prefix.shape[1]
        rotary = beside.rotary if beside else self._rotary(ahead + jnp.arange(x.shape[1])[None])
        stack, last = (self.layers, past), (depth or self.config.num_layers) - 1

        # Layers are taken from the stack by number: cutting the last one off would copy all the others.
        def run(x: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
            layer, past = jax.tree.map(lambda leaf: _layer(leaf, index), stack)
            x = gathered(layer).read(x, rotary, past)
            return beside.after(x, index) if beside else x, None

        def finish(x: jax.Array) -> jax.Array:
            # The weights are fetched when the layer's input is there, not at the program's beginning.
            index, _ = jax.lax.optimization_barrier((last, jax.lax.stop_gradient(x[0, 0, 0])))
            layer, past = jax.tree.map(lambda leaf: _layer(leaf, index), stack)
            return gathered(layer).read_at(x, rotary, past, positions)

        run = jax.checkpoint(run, policy=_without_weights(remat_policy), prevent_cse=False)
        finish = jax.checkpoint(finish, policy=_without_weights(remat_policy))
        x, _ = jax.lax.scan(run, x, jnp.arange(last))
        return self.norm(finish(x)) if depth is None else finish(x)

    def _past(self, prefix: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys and values of a text, float[L, 1, P, K, H]."""
        rotary = self._rotary(jnp.arange(prefix.shape[1])[None])

        def run(x: jax.Array, layer: DecoderLayer) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            x, k, v = gathered(layer).prefill(x, rotary)
            return x, (k, v)

        return jax.lax.scan(run, prefix, self.layers)[1]

    def prefill(
        self, x: jax.Array, lengths: jax.Array, beams: int, steps: int, beside: Beside | None = None
    ) -> tuple[jax.Array, Cache]:
        """Runs the prompts and makes a cache.

        Args:
          x: float[B, T, D], embeddings, right-padded.
          lengths: int32[B], tokens of each row.
          beams: R, continuations of each prompt.
          steps: tokens that `decode` will add to each.
          beside: what the prompts' tokens bring along; None for positions that count from 0.

        Returns:
          The last token's hidden state of each row, float[B, D], and the cache.
        """
        batch, width = x.shape[0], x.shape[1]
        rotary = beside.rotary if beside else self._rotary(jnp.arange(width)[None])

        def run(x: jax.Array, at: tuple[DecoderLayer, jax.Array]) -> tuple[jax.Array, KeysValues]:
            layer, index = at
            x, k, v = gathered(layer).prefill(x, rotary)
            x = beside.after(x, index) if beside else x
            return x, (k.swapaxes(1, 2), v.swapaxes(1, 2))

        def read(x: jax.Array) -> tuple[jax.Array, KeysValues]:
            x, made = jax.lax.scan(run, x, (self.layers, jnp.arange(self.config.num_layers)))
            return x, jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), made)  # rows first

        # What stands beside the tokens belongs to all rows, so these stay together.
        x, made = read(x) if beside else self.target.few_rows(read, x)
        keys, values = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), made)
        last = jnp.take_along_axis(x, (lengths - 1)[:, None, None], axis=1)[:, 0]
        keys, values = (self.target.layers_apart(self.layers, x) for x in (keys, values))
        shape = (*keys[0].shape[:3], beams * steps, self.config.head_size)
        new = tuple(jnp.zeros(shape, x.dtype) for _ in keys)
        prompt = jnp.arange(width) < lengths[:, None, None]
        visible = jnp.concatenate(
            [jnp.repeat(prompt, beams, axis=1), jnp.zeros((batch, beams, beams * steps), bool)], axis=2
        )
        return self.norm(last), Cache(keys, values, new, new, visible, jnp.int32(0))

    def decode(
        self, x: jax.Array, positions: jax.Array, cache: Cache, parts: Sequence[DecoderLayer]
    ) -> tuple[jax.Array, Cache]:
        """Runs one further token of each beam.

        Args:
          x: float[B, R, D], its embedding.
          positions: int32[B], its place in the row, counted without padding.
          cache: keys and values of the tokens before.
          parts: the layers as `parts` gives them, outside of the loop over steps.

        Returns:
          float[B, R, D] hidden states, and the cache with these tokens in it.
        """
        batch, beams = x.shape[:2]
        rotary = self._rotary(positions[:, None])
        itself = jnp.broadcast_to(jnp.eye(beams, dtype=bool), (batch, beams, beams))
        place = cache.step * beams
        slot = cache.prompt_keys[0].shape[3] + place
        visible = jax.lax.dynamic_update_slice(cache.visible, itself, (0, 0, slot))

        # The new keys are carried, not collected: a scan that stacks its outputs would copy them once more.
        def run(carry, inputs):
            x, index, new = carry
            layer, prompt = inputs
            x, new = gathered(layer).decode(x, rotary, prompt, new, (index, place), visible)
            return (x, index + 1, new), None

        made: list[KeysValues] = []
        for part, *prompt, old_keys, old_values in zip(parts, *cache[:4], strict=True):
            start = (x, jnp.int32(0), (old_keys, old_values))
            (x, _, new), _ = jax.lax.scan(run, start, (part, tuple(prompt)))
            made.append(new)
        keys, values = zip(*made, strict=True)
        return self.norm(x), cache._replace(keys=keys, values=values, visible=visible, step=cache.step + 1)

    def parts(self) -> tuple[DecoderLayer, ...]:
        """The layers as `decode` runs them: stacks of l layers each, in order."""
        return self.target.layers_apart(self.layers, self.layers)

    def _rotary(self, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        return rotary_at(positions, self.config.head_size, self.config.rope_theta)


def rotary_at(positions: jax.Array, head_size: int, theta: float) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of rotary positions, float32[B, T, 1, H / 2], for positions int32[B, T] (RoFormer)."""
    frequencies = theta ** (-jnp.arange(0, head_size, 2, dtype=jnp.float32) / head_size)
    angles = positions[:, :, None, None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def _rotate(x: jax.Array, rotary: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates float[B, T, N, H]; element i of a head is rotated with element i + H/2 (rotate-half)."""
    cosine, sine = rotary
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return rotated.astype(x.dtype)


def _at(part: jax.Array, positions: jax.Array) -> jax.Array:
    """Cosine or sine float32[1 or B, T, 1, H / 2] at int32[B, W] of the tokens -> float32[B, W, 1, H / 2]."""
    if part.shape[0] == 1:
        return part[0][positions]
    return jnp.take_along_axis(part, positions[..., None, None], axis=1)


def _behind(
    past: tuple[jax.Array, jax.Array] | None, k: jax.Array, v: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Keys and values of rows, float[B, T, K, H], behind the past that they share."""
    if past is None:
        return k, v
    keys, values = (
        jnp.concatenate([jnp.broadcast_to(old, (new.shape[0], *old.shape[1:])), new], axis=1)
        for old, new in zip(past, (k, v), strict=True)
    )
    return keys, values


def _store(stacked: jax.Array, added: jax.Array, layer: jax.Array, slot: jax.Array) -> jax.Array:
    """Writes one layer's new keys, or values, into those of all layers, in place.

    Args:
      stacked: float[l, B, K, S, H], of l layers and S cache slots.
      added: float[B, R, K, H], of one new token a beam.
      layer: int32[], which of the l layers they belong to.
      slot: int32[], the first of the R slots that they fill.
    """
    return jax.lax.dynamic_update_slice(stacked, added.swapaxes(1, 2)[None], (layer, 0, 0, slot, 0))


def _without_weights(policy: Callable[..., bool] | None) -> Callable[..., bool]:
    """A policy that keeps what `policy` keeps, but not the copy of a layer's weights."""

    def keeps(primitive: Any, *args: Any, **params: Any) -> bool:
        if primitive.name in ("dynamic_slice", "squeeze", "sharding_constraint"):
            return False
        return policy is None or policy(primitive, *args, **params)

    return keeps


def _layer(stacked: jax.Array, index: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(stacked, index, keepdims=False)
