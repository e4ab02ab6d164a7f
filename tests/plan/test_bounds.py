"""Counted work, bounds of seconds, and the search for the largest batch."""

import jax
import jax.numpy as jnp
import pytest

from sare_jax.plan import bounds
from sare_jax.plan.card_page import lines, summary
from sare_jax.plan.cards import card_named
from sare_jax.plan.facts import Facts
from sare_jax.plan.hlo import FORWARD, Deeds, Moved
from sare_jax.plan.work import Work, work_of

H100 = card_named("h100-80gb")


def test_products_are_counted_once_a_turn_and_gradients_with_them():
    weights, x = jnp.zeros((3, 16, 16), jnp.bfloat16), jnp.zeros((4, 5, 16), jnp.bfloat16)

    def run(x):
        return jnp.sum(jax.lax.scan(lambda x, w: (x @ w, None), x, weights)[0])

    product = 2 * 4 * 5 * 16 * 16
    assert work_of(jax.make_jaxpr(run)(x), 1, 1).flops == 3 * product
    assert work_of(jax.make_jaxpr(run)(x), 4, 1).flops == 3 * product / 4
    # Back through x alone there is one product more for each.
    assert work_of(jax.make_jaxpr(jax.grad(run))(x), 1, 1).flops == 6 * product
    assert work_of(jax.make_jaxpr(jax.checkpoint(run))(x), 1, 1).flops == 3 * product
    assert work_of(jax.make_jaxpr(run)(x), 1, 1).bytes == 3 * max(16 * 16, 4 * 5 * 16) * 2


def test_a_loop_of_unknown_length_has_the_turns_that_it_is_given():
    def run(x):
        return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ x, x)

    assert work_of(jax.make_jaxpr(run)(jnp.zeros((8, 8))), 1, 10).flops == 10 * 2 * 8**3


def test_the_bound_is_the_longest_of_three():
    moved = Deeds({}, {"all-reduce": Moved(1, 450_000_000, 450_000_000)}, ())
    bound = bounds.bound_of(Work(989e12, 3.35e12), moved, H100, 8)
    assert (bound.products, bound.memory) == (1.0, 1.0)
    assert bound.links == pytest.approx(2 * 7 / 8 * 1e-3)
    assert bounds.bound_of(Work(1.0, 6.7e12), Deeds({}, {}, ()), H100, 1).limit == "memory"


@pytest.mark.parametrize("most", [1, 7, 8, 23, 64, 100, 1000])
@pytest.mark.parametrize("start", [1, 16, 64])
def test_the_largest_batch_is_found_to_within_an_eighth(most, start):
    asked = []
    found = bounds.largest(lambda rows: asked.append(rows) or rows <= most, start, 1)
    assert most - max(1, most // 8) <= found <= most
    assert len(asked) < 16
    assert bounds.largest(lambda rows: False, start, 1) == 0
    assert bounds.largest(lambda rows: rows <= 40, 16, 8) == 40


def test_a_program_that_does_not_fit_is_named_with_what_to_lower():
    facts = Facts(14_000_000_000, 70_000_000_000, 60.0, Deeds({FORWARD: 32, "cublas": 2}, {}, ()))
    told = "\n".join(lines(facts, bounds.Bound(0.5, 0.1, 0.0), H100))
    assert "84.00 GB a device = 14.00 GB weights, state and batch + 70.00 GB temporary; DOES NOT FIT" in told
    assert "flash attention 32 forward, 0 backward; 2 other" in told
    assert "at least 0.50 s a run, by products" in told
    which = ["config.caption.batch_size (now 64: captions)"]
    said = summary({"caption": 2.0}, [facts.peak], which, H100, "none")
    assert "caption: at least 2.00 GPU hours, 5.00 at 40% of the peaks" in said
    assert "lower config.caption.batch_size (now 64: captions), set config.model.quantization=int8" in said
    assert "quantization" not in summary({}, [facts.peak], which, H100, "int8")


def test_the_share_of_memory_that_jax_is_to_take_covers_the_largest_program():
    enough, whole = (
        summary({}, peaks, [], H100, "none") for peaks in ([15 * 10**9, 22 * 10**9], [75 * 10**9])
    )
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION=0.30 is enough" in enough
    assert "set XLA_PYTHON_CLIENT_MEM_FRACTION=0.95" in whole
