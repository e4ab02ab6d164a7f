"""Log-probabilities of names at openings, beside those of a plain run of the whole row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.training.choices import Caption, name_log_probs
from sare_jax.training.displacement import displacement
from sare_jax.training.sharding import make_mesh
from tests import tiny_training as tiny

LOADED = tiny.tiny_llava()
NAMES = [1, 5, 9, 20]


def caption(image, seed, places):
    rng = np.random.default_rng(seed)
    tokens = [tiny.BOS, *[tiny.IMAGE] * tiny.PATCHES, *map(int, rng.integers(1, 27, size=20))]
    return Caption(image, tokens, places)


CAPTIONS = [
    caption("0.png", 0, [(8, 9), (12, 15)]),
    caption("1.png", 1, []),
    caption("2.png", 2, [(6, 7)]),
    caption("3.png", 3, [(9, 12), (15, 16), (20, 24)]),
]


def by_hand(one):
    """log p of each name at each opening from logits of every position."""
    model = LOADED.merge(LOADED.params, LOADED.frozen)
    tokens = jnp.array([one.tokens])
    embeds = model.project(jnp.asarray(tiny.features([one.image])))
    positions = jnp.arange(len(one.tokens))[None]
    logits = model.logits(model.read(tokens, embeds, positions=positions))[0]
    log_probs = np.asarray(jax.nn.log_softmax(logits.astype(jnp.float32)))
    return [
        sum(log_probs[at - 1, one.tokens[at]] for at in range(start, name)) + log_probs[name - 1, NAMES]
        for start, name in one.places
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_log_probs_are_those_of_a_plain_run(batch_size):
    found = name_log_probs(
        LOADED,
        LOADED.params,
        CAPTIONS,
        NAMES,
        features=tiny.features,
        pad_id=tiny.PAD,
        mesh=make_mesh(1),
        batch_size=batch_size,
    )
    expected = [row for one in CAPTIONS for row in by_hand(one)]
    assert found.shape == (6, 4)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_without_openings_there_is_nothing():
    found = name_log_probs(
        LOADED,
        LOADED.params,
        [CAPTIONS[1]],
        NAMES,
        features=tiny.features,
        pad_id=tiny.PAD,
        mesh=make_mesh(1),
        batch_size=2,
    )
    assert found.shape == (0, 4)


def test_displacement():
    origin = {"a": jnp.array([3.0, 0.0]), "b": {"c": jnp.array([[4.0]], jnp.bfloat16)}}
    moved = {"a": jnp.array([3.0, 0.3]), "b": {"c": jnp.array([[3.5]], jnp.bfloat16)}}
    found = displacement(moved, origin)
    assert found["l2"] == pytest.approx(np.hypot(0.3, 0.5))
    assert found["largest"] == pytest.approx(0.5)
    assert found["share"] == pytest.approx(np.hypot(0.3, 0.5) / 5)
    assert displacement(origin, origin) == {"l2": 0, "largest": 0, "share": 0}
