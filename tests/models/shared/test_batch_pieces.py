"""Rows that go through a function a few at a time: their order, and what is held meanwhile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.inference.generate import generate
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.family import FAMILY
from sare_jax.models.load import abstract
from sare_jax.models.shared import target
from sare_jax.models.shared.batch_pieces import BatchPieces
from sare_jax.models.shared.partition import unflatten
from sare_jax.models.shared.target import Target
from sare_jax.plan import hlo
from sare_jax.training.sharding import by_rows, make_mesh, replicated
from tests.models.shared.test_llama import RAW

WIDTH, TOKENS, NEW = 256, 128, 8


@pytest.mark.parametrize(("devices", "count", "rows"), [(1, 1, 4), (1, 3, 2), (2, 3, 2), (4, 2, 1)])
def test_every_row_goes_through_once_and_stays_in_its_place(devices, count, rows):
    pieces = BatchPieces(devices, count, rows)
    x = jnp.arange(devices * count * rows * 3.0).reshape(-1, 3)
    seen = []

    def run(tree):
        seen.append(tree["x"].shape[0])
        return {"double": 2 * tree["x"], "sum": tree["x"].sum(axis=1)}

    made = pieces.each(run, {"x": x})
    assert set(seen) == {devices * rows}
    np.testing.assert_array_equal(made["double"], 2 * x)
    np.testing.assert_array_equal(made["sum"], x.sum(axis=1))


def test_a_piece_takes_as_many_rows_of_each_device():
    pieces = BatchPieces(2, 3, 2)
    rows = np.asarray(pieces.take(pieces.cut(jnp.arange(12)), jnp.int32(1)))
    np.testing.assert_array_equal(rows, [2, 3, 8, 9])  # of 0 to 5 on the first and 6 to 11 on the second


def test_rows_are_written_where_they_belong_along_a_further_axis():
    pieces = BatchPieces(1, 2, 2)
    empty = pieces.cut(jnp.zeros((3, 4, 5)), axis=1)
    put = pieces.put(empty, jnp.int32(1), jnp.ones((2, 4)), (jnp.int32(2),))
    whole = np.asarray(pieces.join(put, axis=1))
    assert whole.sum() == 8
    assert (whole[2, 2:, :4] == 1).all()


@pytest.mark.parametrize(
    ("rows", "tokens", "devices", "taken"),
    [(64, 640, 1, 8), (16, 640, 1, 8), (64, 640, 8, 8), (13, 640, 1, 1), (2, 9000, 1, 1), (10, 640, 4, 10)],
)
def test_an_accelerators_pieces_are_of_at_most_so_many_tokens(rows, tokens, devices, taken):
    pieces = Target("gpu", devices).pieces(jax.ShapeDtypeStruct((rows, tokens, 4096), jnp.bfloat16))
    assert pieces.rows == taken
    assert pieces.devices * pieces.count * pieces.rows == rows
    assert pieces.rows == 1 or pieces.rows * tokens <= target._TOKENS


def temporaries(rows: int, devices: int = 1) -> tuple[int, dict]:
    """Temporary bytes of answering so many prompts on each device, less the cache, and the collectives."""
    jax.clear_caches()  # a traced program does not know that a constant is another now
    mesh = make_mesh(devices)
    text = RAW["text_config"] | {"hidden_size": WIDTH, "intermediate_size": 8 * WIDTH}
    config = LlavaConfig.from_hf(RAW | {"text_config": text})
    graphdef, shapes = abstract(FAMILY, config, Target.of(replicated(mesh)))
    whole, each = replicated(mesh), by_rows(mesh)
    frozen = unflatten(
        {path: jax.ShapeDtypeStruct(leaf.shape, jnp.float32, sharding=whole) for path, leaf in shapes.items()}
    )
    batch = [(rows * devices, TOKENS), (rows * devices,), (rows * devices, 4, 16)]
    dtypes = jnp.int32, jnp.int32, jnp.float32
    given = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=each) for shape, dtype in zip(batch, dtypes, strict=True)
    ]
    settings = {"max_new_tokens": NEW, "end_ids": (2,), "pad_id": 0}
    compiled = generate.lower(graphdef, {}, frozen, *given, **settings).compile()
    heads = config.text.num_kv_heads * config.text.head_size
    kept = rows * 4 * (2 * config.text.num_layers * heads * (TOKENS + NEW) + 2 * TOKENS * WIDTH)
    found = hlo.deeds(compiled.as_text(), NEW).collectives
    return compiled.memory_analysis().temp_size_in_bytes - kept, found


@pytest.mark.parametrize("devices", [1, 2])
def test_what_is_computed_of_prompts_is_held_for_a_piece_not_for_the_batch(devices, monkeypatch):
    """Of 32 rows no more than of 8, where both are read 4 at a time; in one piece four times as much."""
    monkeypatch.setattr(target, "_FITS", 0)  # as for rows of a large model
    monkeypatch.setattr(target, "_APART_FROM", 1 << 40)  # no second copy of the weights
    monkeypatch.setattr(target, "_TOKENS", 4 * TOKENS)
    one_layer = 4 * TOKENS * 4 * 8 * WIDTH  # an array of the MLP, of a piece
    few, many = (temporaries(rows, devices)[0] for rows in (8, 32))
    assert many - few < one_layer / 2
    monkeypatch.setattr(target, "_TOKENS", 32 * TOKENS)
    few, many = (temporaries(rows, devices)[0] for rows in (8, 32))
    assert many - few > 3 * one_layer


def test_nothing_but_a_flag_goes_between_devices(monkeypatch):
    monkeypatch.setattr(target, "_TOKENS", 4 * TOKENS)
    _, collectives = temporaries(8, 2)
    assert sum(moved.bytes for moved in collectives.values()) < 100
