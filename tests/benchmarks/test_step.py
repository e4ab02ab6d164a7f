"""The step's benchmark at a size that takes seconds: what it runs, counts and prints."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import step

TEXT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 32064,
}
VISION = {
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(step, "TEXT", TEXT)
    monkeypatch.setattr(step, "VISION", VISION)
    monkeypatch.setattr(step, "IMAGE", 4)


def test_a_case_is_a_step_that_can_be_taken_again():
    model, sets = step.Model(jnp.float32), step.units(1)
    batch = next(iter(step.unlearn_batches(sets, batch_size=1, steps=1, seed=0)))
    work = step.Work(model, sets, batch, None)
    case = work.case("sare", refresh=2)
    case.run()
    assert case.units == 2 * 3
    assert case.flops == 2 * (work.efuf_flops + work.again_flops / 2)
    assert case.peak > 0
    case.seconds += [3.0, 12.0, 6.0]
    assert case.unit_s == 1.0


def test_units_and_operations_are_those_of_the_samples():
    model = step.Model(jnp.float32)
    assert model.layers == 2 * (4 * 16 * 16 + 3 * 16 * 24)
    sets = step.units(2)
    batch = next(iter(step.unlearn_batches(sets, batch_size=2, steps=1, seed=0)))
    work = step.Work(model, sets, batch, None)
    assert work.units == 6
    # 35 + 4 + 12 tokens before every text; contexts and targets as the peer has them.
    tokens, targets = 2 * (3 * 51 + 64 + 54 + 110), 2 * (14 + 14 + 110)
    assert work.efuf_flops == 4 * (model.layers * tokens + model.head * targets)
    assert work.again_flops == 4 * (model.layers * 2 * 115 + model.head * 2 * 14)


def test_packed_captions_hold_their_objects_and_themselves():
    sets = step.captions(3, objects=8)
    assert len(sets.neg) + len(sets.pos) == 24
    assert len(sets.sent) == 3
    rows = step.pack(sets)
    batch = next(iter(step.packed_batches(rows, batch_size=3, steps=1, seed=0, pad_id=0)))
    model = step.Model(jnp.float32)
    work = step.Work(model, sets, batch, None)
    tokens = sum(row.upto(step.SETS) for row in rows)
    targets = sum(len(row.targets(step.SETS)) for row in rows)
    assert work.efuf_flops == model.flops(tokens, targets)
    again = [(row.upto(["neg"]), len(row.targets(["neg"]))) for row in rows]
    assert work.again_flops == pytest.approx(model.flops(*np.sum(again, axis=0)))
