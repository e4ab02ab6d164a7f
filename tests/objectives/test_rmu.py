"""RMU's two losses against open-unlearning's, in torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from sare_jax.objectives.needs import Activations, StartingActivations, TokenDistributions, layer_of
from sare_jax.objectives.rmu import displacement, misdirection, rmu

RNG = np.random.default_rng(0)
ACTIVATIONS, STARTING = RNG.normal(size=(2, 3, 5, 8)).astype(np.float32)
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
LOG_PROBS = np.zeros((3, 5), np.float32)


def theirs(activations: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Its loss of each row: a masked sum over tokens of the mean over the width, divided by the tokens."""
    squared = torch.nn.functional.mse_loss(
        torch.from_numpy(activations),
        torch.from_numpy(np.broadcast_to(target, activations.shape).copy()),
        reduction="none",
    )
    mask = torch.from_numpy(MASK).unsqueeze(-1).expand_as(squared)
    summed = (squared * mask).mean(dim=2).sum(dim=1)
    return (summed / torch.from_numpy(MASK).sum(dim=-1)).numpy()


def test_both_losses_are_theirs():
    direction = np.asarray(jax.random.uniform(jax.random.key(4), (8,)))
    ours = misdirection(LOG_PROBS, MASK, ACTIVATIONS, steering=6.5, seed=4)
    wanted = theirs(ACTIVATIONS, 6.5 * direction / np.linalg.norm(direction))
    np.testing.assert_allclose(ours[:2], wanted[:2], rtol=1e-6)
    kept = displacement(LOG_PROBS, MASK, ACTIVATIONS, STARTING)
    np.testing.assert_allclose(kept[:2], theirs(ACTIVATIONS, STARTING)[:2], rtol=1e-6)
    assert ours[2] == kept[2] == 0, "a unit without tokens"


def test_units_of_one_row_have_their_own_tokens():
    together = misdirection(LOG_PROBS[:1], MASK, ACTIVATIONS[:1], steering=1.0)
    alone = [misdirection(LOG_PROBS[:1], MASK[i : i + 1], ACTIVATIONS[:1], steering=1.0)[0] for i in range(3)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_descent_ends_at_the_steering_vector():
    def loss(activations):
        return jnp.sum(misdirection(LOG_PROBS, MASK, activations, steering=3.0))

    at = jnp.asarray(ACTIVATIONS)
    for _ in range(200):
        at -= 20 * jax.grad(loss)(at)
    lengths = jnp.linalg.norm(at, axis=-1)
    np.testing.assert_allclose(lengths[MASK], 3.0, rtol=1e-3)
    np.testing.assert_array_equal(at[~MASK], ACTIVATIONS[~MASK])


def test_an_objective_reads_one_layer():
    assert layer_of(rmu(layer=5).needs) == 5
    assert layer_of((TokenDistributions(),)) is None
    with pytest.raises(ValueError, match="one layer"):
        layer_of((Activations(1), StartingActivations(2)))


@pytest.mark.parametrize("wrong", [{"layer": 0}, {"steering": -1.0}, {"seed": -1}, {"seed": 2**32}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        rmu(**wrong)
