import numpy as np
import pytest

from sare_jax.frontier.curves import area_between, common_range, curve, value_at

X = np.array([94.0, 88.0, 92.0])
Y = np.array([40.0, 10.0, 20.0])


def test_points_are_joined_in_the_order_of_their_abscissa():
    assert value_at(X, Y, 90) == pytest.approx(15)
    assert value_at(X, Y, 93) == pytest.approx(30)
    assert value_at(X, Y, 92) == pytest.approx(20)


def test_ends_belong_to_the_curve_and_nothing_is_extrapolated():
    assert value_at(X, Y, 88) == 10
    assert value_at(X, Y, 94) == 40
    assert np.isnan(value_at(X, Y, 87.99))
    assert np.isnan(value_at(X, Y, 94.01))


def test_points_that_were_not_measured_are_left_out():
    x, y = np.append(X, np.nan), np.append(Y, 3.0)
    assert value_at(x, y, 90) == pytest.approx(15)
    assert np.isnan(value_at(np.array([np.nan]), np.array([1.0]), 90))


def test_points_of_one_abscissa_are_averaged():
    xs, ys = curve(np.array([1.0, 2.0, 1.0]), np.array([4.0, 0.0, 8.0]))
    assert (xs.tolist(), ys.tolist()) == ([1, 2], [6, 0])


def test_area_of_parallel_lines_is_their_distance_times_the_common_width():
    first = np.array([80.0, 90.0]), np.array([10.0, 30.0])
    second = np.array([85.0, 100.0]), np.array([20.0 - 6, 50.0 - 6])
    assert common_range(first[0], second[0]) == (85, 90)
    assert area_between(first, second) == pytest.approx(-6 * 5)
    assert area_between(second, first) == pytest.approx(6 * 5)


def test_area_of_curves_that_cross_is_signed():
    rising = np.array([0.0, 2.0]), np.array([0.0, 2.0])
    falling = np.array([0.0, 2.0]), np.array([2.0, 0.0])
    assert area_between(rising, falling) == pytest.approx(0)
    half = np.array([0.0, 1.0]), np.array([2.0, 1.0])
    assert area_between(rising, half) == pytest.approx(1)


def test_area_minds_the_bends_of_both():
    flat = np.array([0.0, 4.0]), np.array([0.0, 0.0])
    tent = np.array([0.0, 1.0, 4.0]), np.array([0.0, 3.0, 0.0])
    assert area_between(flat, tent) == pytest.approx(6)


def test_curves_without_a_common_range_have_no_area():
    left, right = (np.array([0.0, 1.0]), np.ones(2)), (np.array([1.0, 2.0]), np.ones(2))
    assert np.isnan(area_between(left, right))
    assert common_range(left[0], right[0]) is None
    assert common_range(left[0], np.array([np.nan])) is None
