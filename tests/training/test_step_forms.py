"""Packed rows, rows of one unit and the naive calls are one and the same step, on the same units."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from sare_jax.data.batches import SETS, common_prefix, finetune_batches, tokenize, unlearn_batches
from sare_jax.data.packing import pack, packed_batches
from sare_jax.objectives import Objective
from sare_jax.objectives.ascent import ascent, ascent_loss
from sare_jax.objectives.npo import npo
from sare_jax.optim import AdamW, Perturbation
from sare_jax.records.curated import Rows, Sentences, Units
from sare_jax.training.sharding import compile_step, make_mesh, replicated, spread_rows
from sare_jax.training.state import Hyper, as_arrays, efuf_optimizer, init_state, unlearn_optimizer
from sare_jax.training.step import efuf_step, unlearn_step
from tests import tiny_training as tiny
from tests.training import naive
from tests.training.naive import LOADED, assert_trees_close, compiled, gradient_of, static_of

HYPER = Hyper(0.05, 0.3, 0.2, AdamW(1e-3, 0.05))
CAPTIONS = [
    "a cat on a mat, a dog near it.",
    "two cups, one fork.",
    "a bus in the street",
    "birds over a lake",
]
# Caption → pieces by set: both, with targets that overlap and one that stands twice; only negatives; only
# positives; none. Sentences: the first, and the last, which has nothing else.
PIECES = {
    "neg": [(0, " on a mat"), (0, " a dog"), (0, " a dog"), (1, "two cups"), (1, " one fork")],
    "pos": [(0, "a mat, a"), (0, "cat on"), (2, "a bus"), (2, " in the street")],
}
# `test_step` holds unlikelihood against the same calls.
OBJECTIVES = {"ascent": ascent(), "npo": npo(beta=naive.BETA)}
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


@pytest.fixture(scope="module")
def sets():
    """Token rows with weights, and references of the negatives."""
    rows = Rows(np.array([f"{n}.png" for n in range(4)]), np.arange(4), np.array(CAPTIONS))
    found = tokenize(
        dataclasses.replace(
            tiny.curated(),
            rows=rows,
            sent=Sentences(np.array([0, 3], np.int32), np.ones(2), np.ones(2)),
            **{kind: _units(pieces) for kind, pieces in PIECES.items()},
        ),
        tiny.Letters(),
        "say it",
        multiple=1,
    )
    return dataclasses.replace(found, **{kind: _weighed(getattr(found, kind), kind) for kind in SETS})


def _units(pieces, captions=CAPTIONS):
    row = np.array([row for row, _ in pieces], np.int32)
    start = np.array([captions[row].rindex(piece) for row, piece in pieces], np.int32)
    end = start + np.array([len(piece) for _, piece in pieces], np.int32)
    return Units(row, start, end, np.array(["x"] * len(row)), start, end, np.ones(len(row), np.float32))


def _weighed(units, kind):
    rng = np.random.default_rng(len(units))
    reference = rng.uniform(-30, -20, len(units)).astype(np.float32) if kind == "neg" else None
    weight = rng.uniform(0.5, 2, len(units)).astype(np.float32)
    references = {} if reference is None else {"reference": reference}
    return dataclasses.replace(units, by_unit={"weight": weight} | references)


def unpacked(sets, row_multiple=1):
    """Every unit once, in one batch."""
    parts = {kind: getattr(sets, kind) for kind in SETS}
    return tiny.attach(
        {
            kind: next(iter(finetune_batches(units, np.arange(len(units)), batch_size=len(units),
                                             row_multiple=row_multiple)))
            for kind, units in parts.items()
        }
    )  # fmt: skip


def packed(sets, row_multiple=1):
    """The same, one caption a row."""
    rows = pack(sets)
    (batch,) = packed_batches(
        rows, batch_size=len(rows), steps=1, seed=0, pad_id=tiny.PAD, row_multiple=row_multiple
    )
    return attached(batch)


def attached(batch):
    return {name: tiny.attach(part) if "image" in part else part for name, part in batch.items()}


def run(step, batch, hyper=HYPER, **options):
    optimizer = efuf_optimizer(hyper) if step is efuf_step else unlearn_optimizer(hyper)
    state = init_state(LOADED.params, optimizer, seed=0)
    state, metrics = compiled(step, static_of(**options))(state, LOADED.frozen, batch, as_arrays(hyper))
    return gradient_of(state), metrics


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_packed_unpacked_and_naive_forms_are_equal(sets, objective):
    batch, options = unpacked(sets), {"objective": OBJECTIVES[objective]}
    expected, norm, perturbed = naive.naive_gradient(LOADED.params, batch, objective, HYPER)
    for form in (batch, packed(sets)):
        gradient, metrics = run(unlearn_step, form, **options)
        assert_trees_close(gradient, expected)
        for kind, rule in (("neg", objective), ("pos", "nll"), ("sent", "nll")):
            wanted = naive.naive_loss(LOADED.params, batch[kind], rule)
            np.testing.assert_allclose(metrics[kind], wanted, rtol=1e-5)
        np.testing.assert_allclose(metrics["neg_grad_norm"], norm, rtol=1e-5)
        np.testing.assert_allclose(metrics["neg_perturbed"], perturbed, rtol=1e-5)


@pytest.mark.parametrize("form", [unpacked, packed])
def test_one_pass_with_shared_prefix_and_micro_batches(sets, form):
    """EFUF's own step, and all that saves work, against SARE with ρ = 0 without any of it."""
    expected, losses = run(unlearn_step, unpacked(sets), HYPER._replace(rho=0.0))
    prefix = common_prefix(sets, tiny.IMAGE)
    assert prefix == (tiny.BOS,)
    gradient, metrics = run(
        efuf_step,
        form(sets, row_multiple=2),
        prefix=prefix,
        micro_batches=2,
        remat_policy=jax.checkpoint_policies.nothing_saveable,
    )
    assert_trees_close(gradient, expected)
    assert_trees_close({kind: metrics[kind] for kind in SETS}, {kind: losses[kind] for kind in SETS})


def test_a_refreshed_eps_is_the_plain_one_when_it_is_found(sets):
    plain, seen = run(unlearn_step, packed(sets))
    how = Perturbation(refresh_every=3)
    state = init_state(LOADED.params, unlearn_optimizer(HYPER, how), seed=0)
    step = compiled(unlearn_step, static_of(perturbation=how))
    state, metrics = step(state, LOADED.frozen, packed(sets), as_arrays(HYPER))
    assert_trees_close(gradient_of(state), plain)
    assert "neg_perturbed" not in metrics
    np.testing.assert_allclose(metrics["eps_norm"], seen["eps_norm"], rtol=1e-6)
    _, later = step(state, LOADED.frozen, packed(sets), as_arrays(HYPER))
    assert later["neg_grad_norm"] != metrics["neg_grad_norm"]
    assert later["cosine"] == metrics["cosine"], "of the last ε*"


def test_a_kept_change_takes_one_backward_pass_of_packed_rows(sets):
    """Four steps with k = 3: rows of one unit, where nothing is joined, go the same way."""
    how = Perturbation(refresh_every=3, between="kept")
    step = compiled(unlearn_step, static_of(perturbation=how))
    states, found = [], []
    for form in (unpacked, packed):
        state, metrics = init_state(LOADED.params, unlearn_optimizer(HYPER, how), seed=0), []
        for _ in range(4):
            state, seen = step(state, LOADED.frozen, form(sets), as_arrays(HYPER))
            metrics.append(seen)
        states.append(state)
        found.append(metrics)
    assert_trees_close(states[1].params, states[0].params, rtol=1e-4)
    for ours, theirs in zip(*found, strict=True):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3), ours, theirs)


@pytest.mark.parametrize("form", [unpacked, packed])
@pytest.mark.parametrize(("step", "times"), [(unlearn_step, 3), (efuf_step, 1)])
def test_collectives_are_one_reduction_a_gradient(sets, form, step, times):
    """Eight devices: ∇L_neg twice and the retention gradient once, and nothing of activations' size."""
    mesh = make_mesh(8)
    batch = spread_rows(form(sets, row_multiple=8), mesh)
    optimizer = efuf_optimizer(HYPER) if step is efuf_step else unlearn_optimizer(HYPER)
    on_eight = compile_step(step, mesh, static_of(prefix=(tiny.BOS,)))
    frozen = jax.device_put(LOADED.frozen, replicated(mesh))
    state = init_state(LOADED.params, optimizer, seed=0)
    program = on_eight.lower(state, frozen, batch, as_arrays(HYPER)).compile()
    text = program.as_text()
    moved = [line for line in text.splitlines() if any(f" {kind}(" in line for kind in COLLECTIVES)]
    assert all(" all-reduce(" in line for line in moved)
    trainable = sum(leaf.size for leaf in jax.tree.leaves(LOADED.params))
    total = sum(elements(line) for line in moved)
    assert times * trainable <= total <= times * trainable + 64
    placed = jax.device_put((state, frozen, batch, as_arrays(HYPER)), program.input_shardings[0])
    spread, metrics = program(*placed)
    gradient, losses = run(step, form(sets))
    assert_trees_close(gradient_of(spread), gradient)
    assert_trees_close({kind: metrics[kind] for kind in SETS}, {kind: losses[kind] for kind in SETS})


def elements(line):
    """Numbers that a collective gives, from its result type: `(f32[8,16]{1,0}, f32[]) all-reduce(`."""
    result = line.split(" all-reduce(")[0].split("=", 1)[1]
    sizes = re.findall(r"f32\[([\d,]*)\]", result)
    return sum(int(np.prod([int(n) for n in size.split(",") if n])) for size in sizes)


@pytest.mark.parametrize("form", ["unpacked", "packed"])
def test_mixed_lengths_compile_once_a_bucket(form):
    """Four buckets at most, whatever comes; the loss is traced as often as there are programs."""
    traces = []

    def noted(log_probs, mask):
        traces.append(1)
        return ascent_loss(log_probs, mask)

    texts = ["a cat" + " and a dog" * more for more in [0] * 120 + [2] * 70 + [5] * 9 + [9]]
    found = tokenize(
        dataclasses.replace(
            tiny.curated(num_pos=0, num_sent=0),
            rows=Rows(np.array(["0.png"] * len(texts)), np.arange(len(texts)), np.array(texts)),
            neg=_units([(row, text[-3:]) for row, text in enumerate(texts)], texts),
        ),
        tiny.Letters(),
        "say it",
    )
    if form == "packed":
        batches = packed_batches(pack(found), batch_size=1, steps=200, seed=0, pad_id=tiny.PAD)
    else:
        batches = unlearn_batches(found, batch_size=1, steps=200, seed=0)
    step = compile_step(efuf_step, make_mesh(1), static_of(Objective(noted)))
    state = jax.device_put(init_state(LOADED.params, efuf_optimizer(HYPER), 0), replicated(make_mesh(1)))
    lengths = set()
    for batch in batches:
        lengths.add(batch["neg"]["tokens"].shape[1])
        state, _ = step(state, LOADED.frozen, attached(batch), as_arrays(HYPER))
    assert lengths == set(found.neg.lengths)
    assert len(lengths) == len(traces) == 4
