"""Both ways to a gradient are one on a projector, and every trainable leaf has its gradient on any other."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from sare_jax.data.batches import SETS, finetune_batches, tokenize, unlearn_batches
from sare_jax.data.packing import pack, packed_batches
from sare_jax.data.preferred import with_preferred
from sare_jax.errors import UserError
from sare_jax.models.shared import partition
from sare_jax.objectives import OBJECTIVES
from sare_jax.objectives.ascent import ascent
from sare_jax.objectives.likelihood import token_mean_nll
from sare_jax.objectives.needs import OtherNegatives, PreferredContinuations, has
from sare_jax.optim import AdamW, adamw
from sare_jax.settings.factories import make
from sare_jax.training import gradients, starting
from sare_jax.training.gradients import general, projected
from sare_jax.training.losses import target_log_probs
from sare_jax.training.sharding import make_mesh
from sare_jax.training.state import Hyper, as_arrays, init_state, unlearn_optimizer
from sare_jax.training.step import PLAIN, finetune_step, unlearn_step
from sare_jax.training.work import Work
from tests import tiny_training as tiny
from tests.training import naive
from tests.training.naive import LOADED, assert_trees_close, gradient_of, static_of

ONE = make_mesh(1)
placed = functools.cache(functools.partial(tiny.spread, LOADED))
# `grounded_choice` has samples of its own; `test_choice_step` and `test_choice_run` hold both ways for it.
ON_CURATED = [name for name in OBJECTIVES if name != "grounded_choice"]
# A large β of simnpo multiplies the rounding of L_ft, since its slope is exp(−β L_ft) for unlikely units.
ARGUMENTS: dict[str, dict[str, float]] = {
    "ascent_kl": {"top": 5},
    "rmu": {"layer": 1},
    "simnpo": {"beta": 0.5},
}
# Where logarithms near 1, slopes that are exponentials, or differences of activations leave fewer digits.
TOLERANCES = {"unlikelihood": 3e-6, "simnpo": 3e-6, "rmu": 1e-5}
NORM = r"projector/.*|language_model/norm/.*"


def with_needs(objective, folder, curated=None):
    """The sets with all that the objective needs, measured as a run measures it."""
    curated = curated or tiny.curated()
    sets = tokenize(curated, tiny.Letters(), "say it")
    sets = sets.having("neg", with_preferred(sets.neg, curated, tiny.Letters(), "say it"))
    return starting.with_starting_values(
        sets, objective.needs, placed(ONE), tiny.features, ONE, batch_size=4, folder=folder, made_from={}
    )


def batch_of(sets, form):
    if form == "packed":
        batches = packed_batches(pack(sets), batch_size=4, steps=1, seed=0, pad_id=tiny.PAD)
    else:
        batches = unlearn_batches(sets, batch_size=4, steps=1, seed=0)
    batch = next(iter(batches))
    return {name: tiny.attach(part) if "image" in part else part for name, part in batch.items()}


@functools.partial(jax.jit, static_argnames="static")
def both_sums(params, frozen, batch, static):
    """∇L_neg, the retention gradient and the losses at θ; ∇L_neg of the negatives alone."""
    work = Work(static, frozen, batch)
    return work.at(params, [{"neg": 1.0}, {"pos": 1.0, "sent": 0.2}]), work.again(params)


PREFERRING = [
    name for name in ON_CURATED if has(make(name, {}, OBJECTIVES, "objective").needs, PreferredContinuations)
]


# What is packed differs in how units stand in rows, not in their losses: one objective is held in both forms.
@pytest.mark.parametrize(
    ("name", "form"),
    [(name, "unpacked") for name in ("npo", *PREFERRING)]
    + [(name, "packed") for name in ON_CURATED if name not in PREFERRING],
)
def test_both_ways_are_equal_on_a_projector(name, form, tmp_path):
    objective = make(name, ARGUMENTS.get(name, {}), OBJECTIVES, "objective")
    batch = batch_of(with_needs(objective, tmp_path), form)
    # Not at the starting weights themselves, at which a distance from them has no gradient.
    moved = jax.tree.map(lambda leaf: 1.05 * leaf, LOADED.params)
    found = [
        both_sums(moved, LOADED.frozen, batch, static_of(objective, gradients=way, prefix=(tiny.BOS,)))
        for way in (projected.gradients, general.gradients)
    ]
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(found[0][0][0]))
    assert_trees_close(found[1], found[0], rtol=TOLERANCES.get(name, 1e-6))


def widened():
    """The tiny model with its last norm trainable as well."""
    flat = partition.flatten(LOADED.params) | partition.flatten(LOADED.frozen)
    chosen = {path: leaf for path, leaf in flat.items() if re.fullmatch(NORM, path)}
    rest = {path: leaf for path, leaf in flat.items() if path not in chosen}
    return dataclasses.replace(LOADED, params=partition.unflatten(chosen), frozen=partition.unflatten(rest))


@pytest.mark.parametrize("form", ["unpacked", "packed"])
def test_every_trainable_leaf_has_its_gradient_in_unlearning(form):
    """Eq. 8 by definition, with a norm of the language model among the trainable parameters."""
    loaded, sets = widened(), tokenize(tiny.curated(), tiny.Letters(), "say it")
    static = static_of(loaded=loaded, prefix=(tiny.BOS,))
    assert static.gradients is general.gradients
    units = {kind: getattr(sets, kind) for kind in SETS}
    batch = {
        kind: tiny.attach(next(iter(finetune_batches(each, np.arange(len(each)), batch_size=len(each)))))
        for kind, each in units.items()
    }
    if form == "packed":
        (packed,) = packed_batches(pack(sets), batch_size=4, steps=1, seed=0, pad_id=tiny.PAD)
        step_batch = {name: tiny.attach(part) if "image" in part else part for name, part in packed.items()}
    else:
        step_batch = batch
    hyper = Hyper(0.05, 0.3, 0.2, AdamW(1e-3, 0.0))
    state = init_state(loaded.params, unlearn_optimizer(hyper), seed=0)
    state, _ = jax.jit(functools.partial(unlearn_step, static=static))(
        state, loaded.frozen, step_batch, as_arrays(hyper)
    )

    @functools.partial(jax.jit, static_argnames="kind")
    def slope(params, kind):
        def loss(params):
            log_probs, mask = target_log_probs(loaded.merge(params, loaded.frozen), batch[kind])
            return (-1 if kind == "neg" else 1) * token_mean_nll(log_probs, mask).mean()

        return jax.grad(loss)(params)

    at_theta = slope(loaded.params, "neg")
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(at_theta)))
    moved = jax.tree.map(lambda p, g: p + 0.05 * g / norm, loaded.params, at_theta)
    parts = slope(moved, "neg"), slope(loaded.params, "pos"), slope(loaded.params, "sent")
    expected = jax.tree.map(lambda n, p, s: 0.3 * n + p + 0.2 * s, *parts)
    assert_trees_close(gradient_of(state), expected)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient_of(state)))


def test_every_trainable_leaf_has_its_gradient_in_relearning():
    loaded, hyper = widened(), AdamW(1e-3, 0.0)
    units = tokenize(tiny.curated(), tiny.Letters(), "say it").neg
    batch = tiny.attach(next(iter(finetune_batches(units, np.arange(4), batch_size=4))))
    step = jax.jit(functools.partial(finetune_step, static=static_of(PLAIN, loaded)))
    state = init_state(loaded.params, adamw(hyper), seed=0)
    state, _ = step(state, loaded.frozen, batch, as_arrays(hyper))

    def loss(params):
        return token_mean_nll(*target_log_probs(loaded.merge(params, loaded.frozen), batch)).mean()

    assert_trees_close(gradient_of(state), jax.jit(jax.grad(loss))(loaded.params))


def test_a_trainable_parameter_of_the_image_encoder_is_refused():
    params = {"projector": {"w": 0}, "vision_tower": {"layers": {"q": 0}}}
    with pytest.raises(UserError, match=r"model\.trainable: vision_tower/layers/q lies in the image encoder"):
        gradients.choose(params, mapping="projector/.*", encoder="vision_tower/.*")


@pytest.mark.parametrize("form", ["unpacked", "packed"])
def test_other_negatives_are_the_attack_and_the_first_are_erased(form):
    """ε* by the gradient of the others; ∇L_neg(θ + ε*) of the batch's own."""
    sets = tokenize(tiny.curated(num_neg=12), tiny.Letters(), "say it")
    objective = dataclasses.replace(ascent(), needs=(OtherNegatives(),))
    options = {"batch_size": 3, "steps": 1, "seed": 0, "others": ("other",)}
    if form == "packed":
        (batch,) = packed_batches(pack(sets), pad_id=tiny.PAD, **options | {"batch_size": 2})
    else:
        (batch,) = unlearn_batches(sets, **options)
    batch = {name: tiny.attach(part) if "image" in part else part for name, part in batch.items()}
    static, hyper = static_of(objective), Hyper(0.05, 0.3, 0.2, AdamW(1e-3, 0.0))
    state = init_state(LOADED.params, unlearn_optimizer(hyper), seed=0)
    state, metrics = jax.jit(functools.partial(unlearn_step, static=static))(
        state, LOADED.frozen, batch, as_arrays(hyper)
    )

    @jax.jit
    def parts(params):
        work = Work(static, LOADED.frozen, batch)
        (retain,), _ = work.at(params, [{"pos": 1.0, "sent": 0.2}])
        return retain, work.again(params)[0], work.other_negatives(params)

    retain, own, other = parts(LOADED.params)
    assert any(np.abs(a - b).max() > 1e-6 for a, b in zip(*map(jax.tree.leaves, (own, other)), strict=True))
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(other)))
    moved = jax.tree.map(lambda p, g: p + 0.05 * g / norm, LOADED.params, other)
    expected = jax.tree.map(lambda n, r: 0.3 * n + r, parts(moved)[1], retain)
    assert_trees_close(gradient_of(state), expected)
    assert metrics["neg_perturbed"] != metrics["neg"]


def test_kl_starts_at_zero_and_is_exact_with_the_whole_vocabulary(tmp_path):
    objective = make("ascent_kl", {"top": 10_000}, OBJECTIVES, "objective")
    sets = with_needs(objective, tmp_path)
    static = static_of(objective)
    batch = batch_of(sets, "unpacked")
    moved = jax.tree.map(lambda x: x + 0.1, LOADED.params)
    (_, at_start), _ = both_sums(LOADED.params, LOADED.frozen, batch, static)
    part = batch["pos"]
    plain = naive.naive_loss(LOADED.params, part, "nll")
    np.testing.assert_allclose(at_start["pos"], plain, rtol=1e-5)
    (_, later), _ = both_sums(moved, LOADED.frozen, batch, static)

    def distributions(params):
        model = LOADED.merge(params, LOADED.frozen)
        return np.asarray(jax.nn.log_softmax(model.logits(model.hidden(part["tokens"], part["features"]))))

    before, after = distributions(LOADED.params), distributions(moved)
    divergences = []
    for row in range(len(part["start"])):
        at = np.arange(part["start"][row], part["end"][row]) - 1
        divergences.append(np.mean(np.sum(np.exp(before[row, at]) * (before[row, at] - after[row, at]), -1)))
    np.testing.assert_allclose(
        later["pos"] - naive.naive_loss(moved, part, "nll"), np.mean(divergences), rtol=1e-4
    )


def test_starting_values_are_kept_go_on_and_are_never_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(starting, "CHUNK", 4)
    objective = make("npo", {}, OBJECTIVES, "objective")
    sets, asked = tokenize(tiny.curated(), tiny.Letters(), "say it"), []

    def measured(fail_at=None, **made_from):
        asked.clear()

        def features(names):
            asked.extend(names)
            if len(asked) == fail_at:
                raise KeyboardInterrupt
            return tiny.features(names)

        return starting.with_starting_values(
            sets,
            objective.needs,
            placed(ONE),
            features,
            ONE,
            batch_size=4,
            folder=tmp_path,
            made_from=made_from,
        )

    with pytest.raises(KeyboardInterrupt):
        measured(fail_at=8)
    first = measured().neg.by_unit["reference"]
    assert len(asked) == 8  # ten units in chunks of four, the first kept; the last is filled up
    np.testing.assert_array_equal(measured().neg.by_unit["reference"], first)
    assert asked == []
    measured(image_mode="pad")
    assert len(asked) == 12
    next(iter(sorted(tmp_path.glob("neg-*/*.npz")))).write_bytes(b"PK broken")
    for made_from in ({}, {"image_mode": "pad"}):
        np.testing.assert_allclose(measured(**made_from).neg.by_unit["reference"], first, rtol=1e-5)
