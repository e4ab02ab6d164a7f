"""A step of grounded choice is its docstring's equations, computed caption by caption."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.data.batches import unlearn_batches
from sare_jax.data.choices import choices
from sare_jax.data.openings import all_openings, token_places
from sare_jax.data.packing import pack, packed_batches
from sare_jax.objectives.choosing import KeptTokens
from sare_jax.optim import AdamW
from sare_jax.records.pope_lists import question_for
from sare_jax.training.state import Hyper, as_arrays, efuf_optimizer, init_state
from sare_jax.training.step import efuf_step
from tests import tiny_training as tiny
from tests.training import small_choices as small
from tests.training.naive import assert_trees_close, gradient_of, static_of

LOADED = small.LOADED
MARGIN, WEIGHT = 1.5, 3.0
MOST = 0.0233  # the random model begins an article more often than this at some tokens alone
SETTINGS = dataclasses.replace(
    small.SETTINGS,
    samples=dataclasses.replace(small.SETTINGS.samples, answers_weight=WEIGHT),
    objective_args={"margin": MARGIN, "top": len(tiny.LETTERS) + 3},
)
HYPER = Hyper(0.0, 0.25, 1.2, AdamW(1e-3), 0.4)
# Elsewhere than at the starting weights, where divergences and their gradients are 0.
THETA = jax.tree.map(
    lambda leaf: leaf + 0.3 * np.random.default_rng(leaf.size).normal(size=leaf.shape).astype(np.float32),
    LOADED.params,
)


def log_probs(params, tokens, image):
    """float32[T, V], of the token that follows each one."""
    return _log_probs(params, jnp.array([tokens]), jnp.asarray(tiny.features([image])))


@jax.jit
def _log_probs(params, tokens, features):
    model = LOADED.merge(params, LOADED.frozen)
    return jax.nn.log_softmax(model.logits(model.hidden(tokens, features))[0].astype(jnp.float32))


def certainty(known):
    """The starting weights' log-odds of Yes against No, one question at a time."""
    odds = np.zeros((len(small.CAPTIONS), len(known.words)))
    yes, no = tiny.LETTERS.index("y"), tiny.LETTERS.index("n")
    for row in range(len(odds)):
        for number, name in enumerate(known.words.names):
            question, _ = small.AnyText().answer(f"{row}.png", question_for(name), "", [], False)
            after = log_probs(LOADED.params, question, f"{row}.png")[-1]
            odds[row, number] = after[yes] - after[no]
    return odds


def naive_losses(params, known, odds, held):
    """L_neg, L_pos and L_sent over all captions and the held answers, as the module's docstring has them."""
    article = tiny.LETTERS.index("a")
    names = sorted({tiny.LETTERS.index(name[0]) for name in known.words.names})
    neg, pos, kept_loss = [], [], []
    for row, text in enumerate(small.CAPTIONS):
        opened, image = all_openings(text, known.words), f"{row}.png"
        tokens, places = token_places(opened, text, small.AnyText(), image, SETTINGS.instruction)
        now, before = (log_probs(p, tokens, image) for p in (params, LOADED.params))
        inside = set()
        said: list[str] = []
        absent_sum, present_sum = jnp.zeros(()), jnp.zeros(())
        for opening, (start, name) in zip(opened, places, strict=True):
            inside |= set(range(start, name + 1))
            log_p = now[start - 1, article]
            after = jnp.exp(now[name - 1])
            elsewhere = 1 - jnp.exp(log_p) + jnp.exp(log_p) * (1 - sum(after[token] for token in names))
            groups: dict[str, list[float]] = {}
            for number in opening.choices:
                word = known.words.names[number]
                groups.setdefault(word[0], []).append(odds[row, number])
            free = {first: each for first, each in groups.items() if first not in {w[0] for w in said}}
            certain = SETTINGS.samples.certain
            absent = [first for first, each in free.items() if max(each) < -certain]
            present = [first for first, each in free.items() if max(each) > certain]
            for members, sign in ((absent, 1), (present, -1)):
                if not members:
                    continue
                chosen = sum(after[tiny.LETTERS.index(first)] for first in members)
                s = log_p + jnp.log(chosen) - jnp.log(elsewhere)
                loss = jnp.log1p(jnp.exp(sign * s + MARGIN))
                absent_sum, present_sum = (
                    (absent_sum + loss, present_sum) if sign > 0 else (absent_sum, present_sum + loss)
                )
            said.append(known.words.names[opening.object])
        first = len(tokens) - len(text) - 1
        kept = [at for at in range(first, len(tokens)) if at not in inside]
        kept = [at for at in kept if jnp.exp(before[at - 1, article]) <= MOST]
        divergence = sum(jnp.sum(jnp.exp(before[at - 1]) * (before[at - 1] - now[at - 1])) for at in kept)
        neg.append(absent_sum)
        pos.append(present_sum)
        kept_loss.append(divergence)
    answers = []
    for row, name in held:
        question, _ = small.AnyText().answer(f"{row}.png", question_for(name), "", [], False)
        now, before = (log_probs(p, question, f"{row}.png")[-1] for p in (params, LOADED.params))
        rare = jnp.exp(before[article]) <= MOST
        answers.append(rare * jnp.sum(jnp.exp(before) * (before - now)))
    mean = [sum(each) / len(each) for each in (neg, pos, kept_loss, answers)]
    return mean[0], mean[1], mean[2] + WEIGHT * mean[3]


def batch_of(sets, form):
    if form == "packed":
        rows = pack(sets)
        batches = packed_batches(rows, batch_size=len(rows), steps=1, seed=0, pad_id=tiny.PAD)
    else:  # twice the captions, and all units of D_sent once
        batches = unlearn_batches(sets, batch_size=len(sets.sent), steps=1, seed=0)
    return {
        name: tiny.attach(part) if "image" in part else part for name, part in next(iter(batches)).items()
    }


@pytest.mark.parametrize("form", ["packed", "unpacked"])
def test_losses_and_gradient_are_the_equations(tmp_path, form):
    samples, sets, objective = small.measured(LOADED, tmp_path, SETTINGS)
    needs = [KeptTokens(MOST) if isinstance(need, KeptTokens) else need for need in objective.needs]
    objective = dataclasses.replace(objective, needs=tuple(needs))
    articles = np.concatenate(sets.sent.by_token["article"])
    assert 0.2 < np.mean(articles <= MOST) < 0.8
    known = choices(small.curated(), small.AnyText(), SETTINGS.instruction)
    odds = certainty(known)
    assert len(sets.sent) == 2 * len(small.CAPTIONS)
    held = []
    for tokens, image in list(zip(sets.sent.tokens, sets.sent.image, strict=True))[len(small.CAPTIONS) :]:
        question = "".join(tiny.LETTERS[token] for token in tokens[1 + tiny.PATCHES : -1])
        (name,) = (n for n in known.words.names if small.known(question_for(n)) == question)
        held.append((int(str(image).split(".")[0]), name))

    def total(params):
        neg, pos, sent = naive_losses(params, known, odds, held)
        return HYPER.neg_weight * neg + HYPER.pos_weight * pos + HYPER.sent_weight * sent, (neg, pos, sent)

    expected, losses = jax.grad(total, has_aux=True)(THETA)
    state = init_state(THETA, efuf_optimizer(as_arrays(HYPER)), seed=0)
    static = static_of(objective, LOADED, lexicon=samples.lexicon, padded_length=sets.sent.length)
    after, metrics = jax.jit(efuf_step, static_argnames="static")(
        state, LOADED.frozen, batch_of(sets, form), as_arrays(HYPER), static=static
    )
    assert min(losses) > 0
    np.testing.assert_allclose([metrics[kind] for kind in ("neg", "pos", "sent")], losses, rtol=1e-5)
    assert_trees_close(gradient_of(after), expected, rtol=1e-5)
