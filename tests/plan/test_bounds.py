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


def test_of_a_choice_the_least_counts_that_has_products():
    x = jnp.zeros((8, 8))

    def run(x, choice):
        return jax.lax.switch(choice, [lambda x: 0 * x, lambda x: x @ x @ x, lambda x: x @ x], x)

    assert work_of(jax.make_jaxpr(run)(x, 0), 1, 1).flops == 2 * 8**3


def test_the_bound_is_the_longest_of_three():
    moved = Deeds({}, {"all-reduce": Moved(1, 450_000_000, 450_000_000)}, ())
    bound = bounds.bound_of(Work(989e12, 3.35e12), moved, H100, 8)
    assert (bound.products, bound.memory) == (1.0, 1.0)
    assert bound.links == pytest.approx(2 * 7 / 8 * 1e-3)
    assert bounds.bound_of(Work(1.0, 6.7e12), Deeds({}, {}, ()), H100, 1).limit == "memory"


@pytest.mark.parametrize("last", [-1, 0, 6, 7, 22, 63, 99, 998, 999])
@pytest.mark.parametrize("start", [0, 15, 63])
def test_the_last_that_fits_is_found_to_within_an_eighth(last, start):
    for name, peak, most in (
        ("in proportion", lambda place: 14e9 + 5e7 * place, 4),
        ("by leaps", lambda place: 14e9 + 1e9 * (place // 16), 16),
        ("all or nothing", lambda place: 0.0 if place <= last else float("inf"), 16),
    ):
        asked = []
        limit = peak(last) if last >= 0 else 1e9
        limit = 0.0 if name == "all or nothing" else limit
        fitting = [place for place in range(1000) if peak(place) <= limit]
        found = bounds.last_fitting(lambda place: asked.append(place) or peak(place), limit, 1000, start)  # noqa: B023
        assert max(fitting, default=-1) - max(1, (found + 1) // 8) <= found <= max(fitting, default=-1), name
        assert len(asked) == len(set(asked)) <= most, name
    assert bounds.last_fitting(lambda place: 0, 1, 5, 4) == 4


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
