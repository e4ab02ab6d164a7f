"""Keys and values in small formats, and attention over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.models.shared.cache import Kept, attended


@pytest.mark.parametrize(("cache", "step"), [("int8", 1 / 127), ("fp8", 2**-3)])
def test_a_number_is_wrong_by_half_a_step_at_most(cache, step):
    """A step of int8 is a share of the vector's peak, one of e4m3 a share of the number itself."""
    vectors = jax.random.normal(jax.random.key(0), (2, 3, 40, 16)) * jnp.logspace(-3, 3, 40)[:, None]
    kept = Kept.empty(vectors.shape, vectors.dtype, cache).like(vectors)
    assert kept.numbers.dtype.itemsize == 1
    read = np.asarray(kept.numbers, np.float32) * np.asarray(kept.scales)[..., None]
    of = jnp.abs(vectors).max(-1, keepdims=True) if cache == "int8" else jnp.abs(vectors)
    smallest = jnp.abs(vectors).max(-1, keepdims=True) / 448 * 2**-9  # below it e4m3 has no further numbers
    assert (np.abs(read - vectors) <= 0.5 * step * of * 1.0001 + (smallest if cache == "fp8" else 0)).all()
    assert np.abs(read - vectors).max() > 0


@pytest.mark.parametrize("cache", ["as_weights", "int8", "fp8"])
def test_a_vector_of_zeros_stays_one(cache):
    kept = Kept.empty((1, 1, 2, 8), jnp.float32, cache).like(jnp.zeros((1, 1, 2, 8)))
    assert (np.asarray(kept.numbers, np.float32) == 0).all()
    assert kept.scales is None or np.isfinite(kept.scales).all()


@pytest.mark.parametrize("cache", ["as_weights", "int8", "fp8"])
def test_attention_over_pieces_is_attention_over_all_of_what_they_hold(cache):
    """Against a softmax over the vectors that the formats stand for, in one piece."""
    keys = jax.random.split(jax.random.key(1), 5)
    q = jax.random.normal(keys[0], (2, 3, 4, 8))
    visible = jax.random.bernoulli(keys[1], 0.7, (2, 3, 9)).at[..., 0].set(True)
    whole = [jax.random.normal(key, (2, 2, 9, 8)) for key in keys[2:4]]
    pieces = [
        [Kept.empty(part.shape, part.dtype, cache).like(part) for part in (x[:, :, :5], x[:, :, 5:])]
        for x in whole
    ]
    wide = [
        np.concatenate([wide_of(kept) for kept in parts], axis=2).repeat(2, axis=1)  # 4 heads share 2
        for parts in pieces
    ]
    scores = np.einsum("brnh,bnsh->brns", q, wide[0]) * 8**-0.5
    weights = jax.nn.softmax(np.where(visible[:, :, None], scores, -np.inf), axis=-1)
    expected = np.einsum("brns,bnsh->brnh", weights, wide[1])
    np.testing.assert_allclose(attended(q, *pieces, visible), expected, rtol=1e-5, atol=1e-6)


def wide_of(kept: Kept) -> np.ndarray:
    numbers = np.asarray(kept.numbers, np.float32)
    return numbers if kept.scales is None else numbers * np.asarray(kept.scales)[..., None]
