"""LLaMA: RMSNorm, rotary positions (rotate-half), grouped-query attention, SwiGLU.

Its relatives differ in what stands between the products and the heads (`HeadModules`), and in what tokens
bring along besides their embeddings (`Beside`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from sare_jax.models.shared.attention import attention_at, behind, causal_attention
from sare_jax.models.shared.beside import Beside
from sare_jax.models.shared.cache import Cache, Kept, KeysValues, attended
from sare_jax.models.shared.config import TextConfig
from sare_jax.models.shared.gather import pick
from sare_jax.models.shared.layers import Linear, RMSNorm, Stack, gathered
from sare_jax.models.shared.rotary import rotary_at, rotary_of_tokens, rotate
from sare_jax.models.shared.target import Target
from sare_jax.settings.decoding import CacheFormat

# (shapes, stack) → what queries, keys and values float[..., N, H] go through before they are rotated; None
# where they stay as the products give them.
HeadModules = Callable[[TextConfig, Stack], tuple[Any, Any, Any]]


def _no_modules(config: TextConfig, stack: Stack) -> tuple[None, None, None]:
    del config, stack
    return None, None, None


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
        return self._finish(x, causal_attention(q, *behind(past, k, v), self.target))

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
        k = rotate(self._heads(self.k, self.on_k, normal), rotary)
        k, v = behind(past, k, self._heads(self.v, self.on_v, normal))
        x = pick(x, positions)
        cosine, sine = (rotary_of_tokens(part, positions) for part in rotary)
        q = self._heads(self.q, self.on_q, self.attention_norm(x))
        ahead = k.shape[1] - rotary[0].shape[1]
        return self._finish(x, attention_at(rotate(q, (cosine, sine)), k, v, positions + ahead))

    def prefill(
        self, x: jax.Array, rotary: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """As `__call__`, and the layer's keys and values, float[B, T, K, H]."""
        q, k, v = self._project(x, rotary)
        return self._finish(x, causal_attention(q, k, v, self.target)), k, v

    def extend(
        self, x: jax.Array, rotary: tuple[jax.Array, jax.Array], prompt: KeysValues, visible: jax.Array
    ) -> tuple[jax.Array, KeysValues]:
        """One layer for the first tokens behind the prompts, of all beams of a row together.

        Args:
          x: float[B, Q, D].
          rotary: cosine and sine of the positions.
          prompt: the layer's keys and values of the prompts, float[B, K, T, H].
          visible: bool[B, Q, T + Q], which tokens each of them may see, the prompt's first.

        Returns:
          float[B, Q, D], and the tokens' keys and values, float[B, K, Q, H], in the prompts' format.
        """
        q, k, v = self._project(x, rotary)
        own = prompt[0].like(k.swapaxes(1, 2)), prompt[1].like(v.swapaxes(1, 2))
        keys, values = zip(prompt, own, strict=True)
        return self._finish(x, attended(q, keys, values, visible)), own

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
          new: keys and values of the further tokens, float[l, B, K, S, H], of several layers.
          place: where these tokens' keys and values go: which of those layers this is, and the first slot.
          visible: bool[B, R, T + S], the slots that each beam may see.

        Returns:
          float[B, R, D], and `new` with these tokens in it.
        """
        q, k, v = self._project(x, rotary)
        new = new[0].with_tokens(k, *place), new[1].with_tokens(v, *place)
        here = jax.tree.map(lambda leaf: _layer(leaf, place[0]), new)
        keys, values = zip(prompt, here, strict=True)
        return self._finish(x, attended(q, keys, values, visible)), new

    def _project(
        self, x: jax.Array, rotary: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = self.attention_norm(x)
        parts = ((self.q, self.on_q), (self.k, self.on_k), (self.v, self.on_v))
        q, k, v = (self._heads(project, module, x) for project, module in parts)
        return rotate(q, rotary), rotate(k, rotary), v

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
        self,
        x: jax.Array,
        lengths: jax.Array,
        beams: int,
        steps: int,
        cache: CacheFormat,
        beside: Beside | None = None,
    ) -> tuple[jax.Array, Cache]:
        """Runs the prompts, a few rows at a time, and makes a cache.

        Args:
          x: float[B, T, D], embeddings, right-padded.
          lengths: int32[B], tokens of each row.
          beams: R, continuations of each prompt.
          steps: tokens that `extend` and `decode` will add to each.
          cache: number format of keys and values.
          beside: what the prompts' tokens bring along; None for positions that count from 0.

        Returns:
          The last token's hidden state of each row, float[B, D], and the cache.
        """
        (batch, width), layers = x.shape[:2], self.config.num_layers
        rotary = beside.rotary if beside else self._rotary(jnp.arange(width)[None])
        shape = layers, batch, self.config.num_kv_heads, width, self.config.head_size
        empty = Kept.empty(shape, x.dtype, cache)
        pieces = self.target.pieces(x)
        besides = pieces.cut(beside)

        # Keys are written where they stay: the stack that a scan makes of them would be copied as a whole.
        def run(carry: Any, at: tuple[DecoderLayer, jax.Array]) -> tuple[Any, None]:
            layer, index = gathered(at[0]), at[1]

            def advance(piece: jax.Array, carry: Any) -> Any:
                x, kept = carry
                rows, own = pieces.take((x, besides), piece)
                rows, k, v = layer.prefill(rows, own.rotary if own else rotary)
                rows = own.after(rows, index) if own else rows
                k, v = self.target.in_order((k.swapaxes(1, 2), v.swapaxes(1, 2)))
                made = empty.like(k), empty.like(v)
                return pieces.put(x, piece, rows), pieces.put(kept, piece, made, (index,))

            return jax.lax.fori_loop(0, pieces.count, advance, carry), None

        start = pieces.cut(x), pieces.cut((empty, empty), axis=1)
        (x, kept), _ = jax.lax.scan(run, start, (self.layers, jnp.arange(layers)))
        x = pieces.join(x)
        keys, values = (self.target.layers_apart(self.layers, part) for part in pieces.join(kept, axis=1))
        last = jnp.take_along_axis(x, (lengths - 1)[:, None, None], axis=1)[:, 0]
        free = beams * steps
        new = tuple(
            Kept.empty((*part.numbers.shape[:3], free, self.config.head_size), x.dtype, cache)
            for part in keys
        )
        prompt = jnp.repeat(jnp.arange(width) < lengths[:, None, None], beams, axis=1)
        visible = jnp.concatenate([prompt, jnp.zeros((batch, beams, free), bool)], axis=2)
        return self.norm(last), Cache(keys, values, new, new, visible, jnp.int32(0), jnp.int32(0))

    def extend(
        self,
        x: jax.Array,
        positions: jax.Array,
        ends: jax.Array,
        cache: Cache,
        parts: Sequence[DecoderLayer],
    ) -> tuple[jax.Array, Cache]:
        """Runs several further tokens of each beam, directly behind the prompts.

        Args:
          x: float[B, R, W, D], their embeddings, right-padded.
          positions: int32[B], the place of each beam's first one in the row, counted without padding.
          ends: int32[B, R], tokens of each beam, at least one.
          cache: what `prefill` made.
          parts: the layers as `parts` gives them.

        Returns:
          The last token's hidden state of each beam, float[B, R, D], and the cache with all of them.
        """
        batch, beams, width, _ = x.shape
        count = beams * width
        places = positions[:, None, None] + jnp.arange(width)
        rotary = self._rotary(jnp.broadcast_to(places, (batch, beams, width)).reshape(batch, count))
        beam, place = jnp.divmod(jnp.arange(count), width)
        own = (beam[:, None] == beam) & (place[:, None] >= place)
        size = cache.visible.shape[2] - cache.keys[0].numbers.shape[3]
        prompt = jnp.repeat(cache.visible[..., :size], width, axis=1)
        visible = jnp.concatenate([prompt, jnp.broadcast_to(own, (batch, count, count))], axis=2)
        x = x.reshape(batch, count, -1)
        pieces = self.target.pieces(x)
        given = pieces.cut((rotary, visible))

        def run(carry: Any, at: tuple[DecoderLayer, KeysValues]) -> tuple[Any, None]:
            layer, prompts = gathered(at[0]), pieces.cut(at[1])

            def advance(piece: jax.Array, carry: Any) -> Any:
                x, index, new = carry
                (rotary, visible), prompt = pieces.take((given, prompts), piece)
                rows, made = layer.extend(pieces.take(x, piece), rotary, prompt, visible)
                new = pieces.put(new, piece, self.target.in_order(made), (index,))
                return pieces.put(x, piece, rows), index, new

            x, index, new = jax.lax.fori_loop(0, pieces.count, advance, carry)
            return (x, index + 1, new), None

        x = pieces.cut(x)
        made: list[KeysValues] = []
        for part, old in zip(parts, cache.by_part, strict=True):
            start = x, jnp.int32(0), pieces.cut(old.new, axis=1)
            (x, _, new), _ = jax.lax.scan(run, start, (part, old.prompt))
            made.append(pieces.join(new, axis=1))
        x = pieces.join(x).reshape(batch, beams, width, -1)
        last = jnp.take_along_axis(x, (ends - 1)[..., None, None], axis=2)[:, :, 0]
        here = (beam == jnp.arange(beams)[:, None]) & (place < ends[..., None])
        seen = jax.lax.dynamic_update_slice(cache.visible, here, (0, 0, size))
        keys, values = zip(*made, strict=True)
        return self.norm(last), cache._replace(keys=keys, values=values, visible=seen, slot=jnp.int32(count))

    def decode(
        self, x: jax.Array, positions: jax.Array, cache: Cache, parts: Sequence[DecoderLayer]
    ) -> tuple[jax.Array, Cache]:
        """Runs one further token of each beam.

        Args:
          x: float[B, R, D], its embedding.
          positions: int32[B, R], its place in the row, counted without padding.
          cache: keys and values of the tokens before.
          parts: the layers as `parts` gives them, outside of the loop over steps.

        Returns:
          float[B, R, D] hidden states, and the cache with these tokens in it.
        """
        batch, beams = x.shape[:2]
        rotary = self._rotary(positions)
        itself = jnp.broadcast_to(jnp.eye(beams, dtype=bool), (batch, beams, beams))
        first = cache.visible.shape[2] - cache.keys[0].numbers.shape[3] + cache.slot
        visible = jax.lax.dynamic_update_slice(cache.visible, itself, (0, 0, first))

        # The new keys are carried, not collected: a scan that stacks its outputs would copy them once more.
        def run(carry: Any, inputs: tuple[DecoderLayer, KeysValues]) -> tuple[Any, None]:
            x, index, new = carry
            layer, prompt = inputs
            prompt = self.target.in_order(prompt)
            x, new = gathered(layer).decode(x, rotary, prompt, new, (index, cache.slot), visible)
            return (x, index + 1, new), None

        made: list[KeysValues] = []
        for part, old in zip(parts, cache.by_part, strict=True):
            start = (x, jnp.int32(0), old.new)
            (x, _, new), _ = jax.lax.scan(run, start, (part, old.prompt))
            made.append(new)
        keys, values = zip(*made, strict=True)
        slot, step = cache.slot + beams, cache.step + 1
        return self.norm(x), cache._replace(keys=keys, values=values, visible=visible, slot=slot, step=step)

    def parts(self) -> tuple[DecoderLayer, ...]:
        """The layers as `decode` runs them: stacks of l layers each, in order."""
        return self.target.layers_apart(self.layers, self.layers)

    def _rotary(self, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        return rotary_at(positions, self.config.head_size, self.config.rope_theta)


def _without_weights(policy: Callable[..., bool] | None) -> Callable[..., bool]:
    """A policy that keeps what `policy` keeps, but not the copy of a layer's weights."""

    def keeps(primitive: Any, *args: Any, **params: Any) -> bool:
        if primitive.name in ("dynamic_slice", "squeeze", "sharding_constraint"):
            return False
        return policy is None or policy(primitive, *args, **params)

    return keeps


def _layer(stacked: jax.Array, index: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(stacked, index, keepdims=False)
