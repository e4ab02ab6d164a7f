"""The repetition penalty against transformers' own processor."""

import jax.numpy as jnp
import numpy as np
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from sare_jax.inference.repetition import NONE, and_token, occurring, penalised

VOCABULARY, PENALTY = 20, 1.3


def test_logits_are_those_of_transformers():
    rng = np.random.default_rng(0)
    tokens, lengths = rng.integers(0, VOCABULARY, (3, 9)), np.array([9, 4, 1])
    tokens[0, 2] = VOCABULARY + 5  # an image token beyond the table
    logits = rng.normal(size=(3, VOCABULARY)).astype(np.float32)
    new = np.array([3, 3, 7])
    occurred = and_token(occurring(jnp.asarray(tokens), jnp.asarray(lengths), VOCABULARY, PENALTY), new)
    ours = penalised(jnp.asarray(logits), occurred, PENALTY)
    process = RepetitionPenaltyLogitsProcessor(PENALTY)
    for row, length in enumerate(lengths):
        said = [token for token in [*tokens[row, :length], new[row]] if token < VOCABULARY]
        expected = process(torch.tensor([said]), torch.from_numpy(logits[row : row + 1]))
        np.testing.assert_allclose(ours[row], expected[0], rtol=1e-6)
        assert np.any(np.asarray(ours[row]) != logits[row])


def test_without_a_penalty_nothing_is_kept_or_changed():
    occurred = occurring(jnp.zeros((2, 3), int), jnp.array([3, 2]), VOCABULARY, NONE)
    assert occurred is None
    assert and_token(occurred, jnp.array([1, 2])) is None
    logits = jnp.ones((2, VOCABULARY))
    assert penalised(logits, occurred, NONE) is logits
