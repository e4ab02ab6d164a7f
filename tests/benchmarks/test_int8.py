"""What the benchmark of int8 kernels counts, by hand; and one run of it on a tiny random model."""

import argparse

import numpy as np
import pytest

from benchmarks import int8, step
from tests.benchmarks.test_step import TEXT, VISION

EXACT = ("float32, int8", "float32")


def test_figures_are_what_they_are_called():
    """Two tokens over three words; a constant added to all of a token's logits changes nothing."""
    sums, wanted = int8.Sums(), np.array([[1.0, 0.0, -1.0], [0.0, 3.0, 0.0]])
    int8._add(sums, np.array([[6.0, 5.0, 4.0], [3.5, 3.0, -0.5]]), wanted)
    assert sums.tokens == 2
    assert sums.equal == 1
    assert sums.size == pytest.approx(2 / 3 + 2)
    assert sums.error == pytest.approx((2.5**2 + 1 + 1.5**2) / 3)
    p, q = (np.exp(x) / np.exp(x).sum() for x in (wanted[1], np.array([3.5, 3.0, -0.5])))
    assert sums.divergence == pytest.approx(np.sum(p * np.log(p / q)), rel=1e-5)
    sums.gradients["x"] = [
        (np.array([1.0, 0.0]), np.array([1.0, 1.0])),
        (np.array([0.0, 1.0]), np.array([0.0, 0.0]) + 1),
    ]
    said = int8.told(EXACT, sums)
    assert "equal greedy tokens 50.00 %" in said
    assert "gradient of x: cosine 1.000000, least of 2 batches 0.707107" in said


def test_int8_is_near_and_float32_is_itself(monkeypatch):
    monkeypatch.setattr(step, "TEXT", TEXT | {"hidden_size": 32, "intermediate_size": 64})
    monkeypatch.setattr(step, "VISION", VISION)
    monkeypatch.setattr(step, "IMAGE", 4)
    models, batches = int8._random(argparse.Namespace(random=3, batch=2))
    assert [len(rows.tokens) for rows in batches] == [2, 1]
    found = int8.measure(models, batches)
    same = int8.measure(dict.fromkeys(int8.FORMS, models["float32"]), batches)
    for pair in int8.PAIRS:
        assert found[pair].tokens == 3 * step.UNITS["sent"][1]
        assert 0 < found[pair].error < 1e-2 * found[pair].size
        assert "cosine 0.99" in int8.told(pair, found[pair])
        assert (same[pair].error, same[pair].equal) == (0, same[pair].tokens)
        assert "cosine 1.000000" in int8.told(pair, same[pair])
