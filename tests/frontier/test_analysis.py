"""Numbers of curves whose truth is known."""

import numpy as np
import pytest

from sare_jax.frontier.analysis import Base, Run, analyse

IMAGES = 200


def counts(chair_s, recall, shift=0, words=50):
    """An image has one caption and ten objects; shares in percent are met exactly, on shifted images."""
    rows = np.zeros((IMAGES, 5))
    rows[:, 0], rows[:, 3], rows[:, 4] = 1, 10, words
    rows[: round(chair_s * IMAGES / 100), 1] = 1
    total = round(recall * IMAGES * 10 / 100)
    rows[:, 2] = total // IMAGES
    rows[: total % IMAGES, 2] += 1
    return np.roll(rows, shift, axis=0)


def run(method, weight, recall, before, after, *, seed=0, model="a"):
    return Run(
        f"{method}_{weight}_{seed}",
        method,
        weight,
        (model, seed),
        counts(before, recall, 7 * seed),
        counts(after, recall + 1, 7 * seed),
    )


def method(name, lower, seeds=(0, 1, 2), models=("a",), weights=((0.1, 94), (0.2, 92), (0.4, 88))):
    """CHAIR_S 10 at recall 88, 2.5 more a point of recall, 20 more after the attack; lower by so much."""
    return [
        run(name, w, r, 10 + 2.5 * (r - 88) - lower, 30 + 2.5 * (r - 88) - lower, seed=seed, model=model)
        for w, r in weights
        for seed in seeds
        for model in models
    ]


BASES = {"a": Base(counts(60, 96), counts(78, 96))}


@pytest.fixture(scope="module")
def found():
    runs = method("efuf", 0) + method("robust", 4)
    return analyse(runs, BASES, (90, 93, 95), "efuf", draws=200)


def test_values_at_a_recall_are_interpolated(found):
    at_90, at_93, at_95 = found["methods"]["efuf"]["at"]
    assert at_90["before"]["value"] == pytest.approx(15)
    assert at_90["after"]["value"] == pytest.approx(35)
    assert at_93["before"]["value"] == pytest.approx(22.5)
    low, high = at_93["after"]["interval"]
    assert low < at_93["after"]["value"] < high
    assert at_95["before"] == {"value": None, "interval": None, "reached": pytest.approx(0, abs=0.3)}
    assert found["methods"]["efuf"]["range"] == [88, 94]


def test_excess_is_beyond_what_the_base_learns(found):
    at = found["methods"]["robust"]["at"][0]
    assert at["given_back"]["value"] == pytest.approx(20)
    assert at["excess"]["value"] == pytest.approx(20 - 18)
    assert all(point["excess"]["value"] == pytest.approx(2) for point in found["methods"]["robust"]["points"])


def test_differences_are_paired(found):
    """The methods differ by 4 on few images, the same in every resample: narrower than either's interval."""
    change = next(item for item in found["differences"] if item["recall"] == 90)
    assert (change["reference"], change["method"]) == ("efuf", "robust")
    assert change["after"]["value"] == pytest.approx(-4)
    alone = found["methods"]["efuf"]["at"][0]["after"]["interval"]
    low, high = change["after"]["interval"]
    assert low < -4 < high < 0
    assert high - low < alone[1] - alone[0]


def test_area_between_parallel_curves(found):
    area = found["areas"][0]
    assert area["range"] == [88, 94]
    assert area["after"]["mean"]["value"] == pytest.approx(-4)
    assert area["after"]["area"]["value"] == pytest.approx(-4 * 6)
    assert area["before"]["mean"]["interval"][1] < 0


def test_methods_on_one_frontier_are_not_told_apart():
    """The same line at other weights: what a method trades is no gain."""
    other = method("robust", 0, weights=((1.0, 93), (2.0, 90), (3.0, 89)))
    found = analyse(method("efuf", 0) + other, BASES, (90,), "efuf", draws=200)
    assert found["differences"][0]["after"]["value"] == pytest.approx(0, abs=0.2)
    low, high = found["areas"][0]["after"]["mean"]["interval"]
    assert low < 0 < high or (low, high) == pytest.approx((0, 0), abs=0.5)


def test_seeds_widen_the_interval():
    def spread(shift):
        runs = [
            run("efuf", w, r, 20 + 2 * (r - 88) + shift * (seed - 1), 40 + shift * (seed - 1), seed=seed)
            for w, r in ((0.1, 94), (0.2, 88))
            for seed in (0, 1, 2)
        ]
        found = analyse(runs, BASES, (90,), "efuf", draws=300)["methods"]["efuf"]["at"][0]["after"]
        return found["interval"][1] - found["interval"][0]

    assert spread(12) > 1.2 * spread(0)


def test_base_models_are_pooled_and_drawn_as_a_whole():
    """Two base models whose methods lie 10 apart: with both, the interval spans more than with one."""
    bases = BASES | {"b": Base(counts(50, 96), counts(60, 96))}
    first, second = method("efuf", 0), method("efuf", 10, models=("b",))
    both = analyse(first + second, bases, (90,), "efuf", draws=300)["methods"]["efuf"]
    one = analyse(first, bases, (90,), "efuf", draws=300)["methods"]["efuf"]
    assert both["at"][0]["after"]["value"] == pytest.approx(30)
    assert both["at"][0]["excess"]["value"] == pytest.approx(20 - 14)
    width = [m["at"][0]["after"]["interval"][1] - m["at"][0]["after"]["interval"][0] for m in (both, one)]
    assert width[0] > width[1]
    assert both["points"][0]["runs"] == 6


def test_without_an_attacked_base_there_is_no_excess():
    found = analyse(method("efuf", 0), {"a": Base(counts(60, 96), None)}, (90,), "efuf", draws=50)
    at = found["methods"]["efuf"]["at"][0]
    assert at["after"]["value"] == pytest.approx(35)
    assert at["excess"] == {"value": None, "interval": None, "reached": 0}


def test_equal_arguments_give_equal_numbers():
    runs = method("efuf", 0)
    first, second = (analyse(runs, BASES, (90,), "efuf", draws=50, seed=3) for _ in range(2))
    assert first == second


def test_a_recall_that_few_resamples_reach_has_no_interval():
    """At the very end of the curve about half of the resamples stop short of it."""
    at = analyse(method("efuf", 0), BASES, (94,), "efuf", draws=200)["methods"]["efuf"]["at"][0]
    assert at["before"]["value"] == pytest.approx(25)
    assert at["before"]["interval"] is None
    assert at["before"]["reached"] < 0.9
