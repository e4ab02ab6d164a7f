"""Grounded choice against its equations in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from sare_jax.objectives.choosing import Articles, Choice, KeptTokens, OpeningChoices
from sare_jax.objectives.grounded_choice import absent_loss, grounded_choice, retain_loss
from sare_jax.objectives.needs import AtHand, Lexicon, Outputs

LEXICON = Lexicon(names=(4, 5, 6), articles=(1, 2))
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(1, 6, 9)) * 3
TARGETS = np.array([[1, 4, 7, 1, 8, 6]])  # an opening at 0–1, and one at 3–5 with a word between
CHOSEN = np.zeros((1, 6, 3), bool)
CHOSEN[0, 1, [0, 1]] = True
CHOSEN[0, 5, 2] = True
WORDS = np.array([[0, 1, 0, 0, 0, 2]])
MASK = np.ones((1, 1, 6), bool)


def at_hand(logits, **by_token):
    log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), TARGETS[..., None], -1)[..., 0]
    return AtHand(logits, log_probs[:, None], {}, by_token, 6, LEXICON, None, None)


def choice(logits):
    given = at_hand(logits, absent=jnp.array(CHOSEN), words=jnp.array(WORDS))
    return OpeningChoices("absent", sets=("neg",)).value(given)


def naive():
    probs = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum(-1, keepdims=True)
    odds = []
    for first, name, tokens in ((0, 1, [4, 5]), (3, 5, [6])):
        article = probs[first, TARGETS[0, first]]
        nothing = 1 - probs[first, [1, 2]].sum() + article * (1 - probs[name, [4, 5, 6]].sum())
        odds.append(np.log(article * probs[name, tokens].sum() / nothing))
    return np.array(odds)


def test_losses_are_the_equations():
    made = choice(jnp.array(LOGITS, jnp.float32))
    np.testing.assert_array_equal(np.flatnonzero(made.there), [1, 5])
    np.testing.assert_allclose(np.array(made.odds)[0, 0, [1, 5]], naive(), rtol=1e-4)
    absent = absent_loss(jnp.zeros((1, 1, 6)), MASK, made, margin=2.0)
    np.testing.assert_allclose(absent, [[np.log1p(np.exp(naive() + 2)).sum()]], rtol=1e-4)
    present = retain_loss(jnp.zeros((1, 1, 6)), MASK, made, margin=2.0)
    np.testing.assert_allclose(present, [[np.log1p(np.exp(2 - naive())).sum()]], rtol=1e-4)


def test_value_and_gradient_are_finite_at_both_ends():
    for scale in (50.0, -50.0):
        sharp = jnp.array(LOGITS, jnp.float32).at[..., 4:7].add(scale).at[..., 1:3].add(scale)

        def loss(logits):
            made = choice(logits)
            zeros = jnp.zeros((1, 1, 6))
            return jnp.sum(
                absent_loss(zeros, MASK, made, margin=2.0) + retain_loss(zeros, MASK, made, margin=2.0)
            )

        value, slope = jax.value_and_grad(loss)(sharp)
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


def test_a_unit_without_openings_has_loss_zero():
    made = Choice(jnp.full((1, 1, 6), jnp.nan), jnp.zeros((1, 1, 6), bool))
    assert float(absent_loss(jnp.zeros((1, 1, 6)), MASK, made, margin=2.0)[0, 0]) == 0


def test_divergence_is_summed_over_kept_tokens_where_no_article_is_likely():
    reference = jax.nn.log_softmax(jnp.array(RNG.normal(size=(1, 1, 6, 5)), jnp.float32))
    current = jax.nn.log_softmax(jnp.array(RNG.normal(size=(1, 1, 6, 5)), jnp.float32))
    article = Articles((1, 2)).by_token(Outputs(jnp.array(LOGITS, jnp.float32), None))["article"]
    in_opening = jnp.array(WORDS) > 0
    kept = KeptTokens(most=0.2).value(at_hand(jnp.array(LOGITS), kept=~in_opening, article=article))
    there = np.array(kept)[0, 0]
    assert 0 < there.sum() < 6
    moved = np.sum(np.exp(reference) * (np.array(reference) - current), -1)[0, 0]
    loss = retain_loss(jnp.zeros((1, 1, 6)), MASK, distributions=(reference, current), kept=kept, margin=2.0)
    np.testing.assert_allclose(loss, [[moved[there].sum()]], rtol=1e-4)
    assert len(grounded_choice().needs) == 4
