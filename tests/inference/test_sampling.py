"""What is drawn from, against transformers; and what a draw depends on."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from sare_jax.inference.sampling import draw, narrow
from sare_jax.settings import DecodingConfig
from tests.inference.cases import Case, make_case, run

DRAWN = DecodingConfig(temperature=1.3, top_k=20, top_p=0.9, seed=5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(
    ("top_k", "top_p"), [(0, 1.0), (7, 1.0), (0, 0.6), (30, 0.9), (500, 0.001), (1, 0.5)]
)
def test_distribution_equals_transformers(temperature, top_k, top_p):
    logits = 3 * np.random.default_rng(0).normal(size=(5, 200)).astype(np.float32)
    expected = TemperatureLogitsWarper(temperature)(None, torch.from_numpy(logits))
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    ours = narrow(jnp.asarray(logits), DecodingConfig(temperature=temperature, top_k=top_k, top_p=top_p))
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-6)


def test_draws_follow_the_distribution():
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    count = 4000
    logits = jnp.tile(jnp.log(probabilities), (count, 1))
    drawn = draw(logits, DecodingConfig(temperature=1.0), jnp.arange(count), jnp.int32(3))
    shares = np.bincount(drawn, minlength=4) / count
    # Four standard deviations of a share.
    np.testing.assert_allclose(shares, probabilities, atol=4 * np.sqrt(0.25 / count))


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return make_case(tmp_path_factory.mktemp("plain"), "plain")


def drawn(case: Case, rows: list[int], numbers: list[int], decoding: DecodingConfig = DRAWN, **settings):
    return run(case, rows, max_new_tokens=12, decoding=decoding, numbers=np.array(numbers), **settings)


def test_a_draw_depends_on_seed_and_number_not_on_the_batch(case):
    together = drawn(case, [0, 1, 2, 3], [10, 11, 12, 13])
    assert drawn(case, [3, 0, 1, 1], [13, 10, 11, 99])[:3] == [together[3], together[0], together[1]]
    assert drawn(case, [2], [12], width=40) == [together[2]]
    twice = drawn(case, [0, 0, 0, 0], [10, 10, 11, 12])
    assert twice[0] == twice[1] == together[0]
    assert len({tuple(ids) for ids in twice}) == 3
    assert drawn(case, [0, 1, 2, 3], [10, 11, 12, 13], DecodingConfig(temperature=1.3, seed=6)) != together


def test_draws_leave_out_what_is_not_allowed(case):
    allowed = np.arange(case.loaded.config.text.vocab_size) % 2 == 0
    decoding = DecodingConfig(temperature=5.0)
    ids = drawn(case, [0, 1, 2, 3], [0, 1, 2, 3], decoding, allowed=allowed)
    assert not any(token % 2 for row in ids for token in row)


def test_ge_07_without_a_temperature_nothing_is_drawn(case):
    greedy = run(case, [0, 1, 2, 3], max_new_tokens=12)
    assert drawn(case, [0, 1, 2, 3], [7, 8, 9, 10], DecodingConfig(top_k=50, top_p=0.9, seed=3)) == greedy
