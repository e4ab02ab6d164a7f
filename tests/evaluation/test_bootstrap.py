import time

import numpy as np
import pytest
from scipy import special

from sare_jax.evaluation import bootstrap, shares

SHARE = bootstrap.ratio(1, 0)


def coin(count, heads):
    return np.stack([np.ones(count), np.arange(count) < heads], axis=1)


def test_interval_of_a_share_is_the_normal_one():
    low, high = bootstrap.interval(coin(1000, 300), SHARE, draws=4000)
    half = 1.96 * 100 * np.sqrt(0.3 * 0.7 / 1000)
    assert (low, high) == pytest.approx((30 - half, 30 + half), abs=0.25)


def test_same_seed_same_interval():
    counts = np.random.default_rng(0).random((50, 2))
    assert bootstrap.interval(counts, SHARE, seed=3) == bootstrap.interval(counts, SHARE, seed=3)
    assert bootstrap.interval(counts, SHARE, seed=3) != bootstrap.interval(counts, SHARE, seed=4)


def test_resamples_agree_with_resampling_one_by_one():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 5, size=(30, 2)).astype(float) + 1
    drawn = np.random.default_rng(7).integers(30, size=(200, 30))
    one_by_one = [100 * counts[rows, 1].sum() / counts[rows, 0].sum() for rows in drawn]
    expected = np.percentile(one_by_one, [2.5, 97.5])
    assert bootstrap.interval(counts, SHARE, draws=200, seed=7) == pytest.approx(list(expected))


@pytest.mark.parametrize("at_once", [1, 100, 4096])
def test_many_images_are_drawn_a_few_resamples_at_a_time(monkeypatch, at_once):
    """Odd numbers of images, since a generator gives numbers of 32 bits in pairs."""
    drawn = np.random.default_rng(5).integers(37, size=(101, 37))
    whole = np.stack([np.bincount(rows, minlength=37) for rows in drawn])
    counts = np.random.default_rng(0).integers(0, 9, (37, 2)) + 1
    expected = bootstrap.difference(counts, counts[::-1], SHARE, draws=101, seed=5)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", at_once)
    bootstrap.resamples.cache_clear()
    np.testing.assert_array_equal(bootstrap.resamples(37, 101, 5), whole)
    monkeypatch.setattr(bootstrap, "_KEPT", 0)
    assert bootstrap.difference(counts, counts[::-1], SHARE, draws=101, seed=5) == expected
    low, high = np.percentile(SHARE(whole @ counts), [2.5, 97.5])
    assert bootstrap.interval(counts, SHARE, draws=101, seed=5) == [low, high]


def test_coverage():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        sample = np.stack([np.ones(200), rng.random(200) < 0.4], axis=1)
        low, high = bootstrap.interval(sample, SHARE, draws=300, seed=trial)
        hits += low <= 40 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_paired_difference_is_narrower_than_two_intervals():
    rng = np.random.default_rng(2)
    hard = rng.random(400)
    before = np.stack([np.ones(400), hard > 0.5], axis=1)
    after = np.stack([np.ones(400), hard > 0.55], axis=1)
    result = bootstrap.difference(before, after, SHARE)
    low, high = result["interval"]
    assert result["difference"] == pytest.approx(
        bootstrap.value(after, SHARE) - bootstrap.value(before, SHARE)
    )
    assert low < result["difference"] < high < 0
    assert result["p"] <= 0.01
    assert high - low < 0.6 * np.diff(bootstrap.interval(before, SHARE))[0]


def test_no_difference():
    counts = coin(40, 10)
    result = bootstrap.difference(counts, counts, SHARE)
    assert (result["difference"], result["interval"], result["p"]) == (0, [0, 0], 1)


def test_nothing_below_the_line_is_zero_and_quick():
    started = time.process_time()
    assert bootstrap.interval(np.zeros((500, 2)), SHARE) == [0, 0]
    assert time.process_time() - started < 1


def test_pairs_must_match():
    with pytest.raises(ValueError, match="paired"):
        bootstrap.difference(coin(3, 1), coin(4, 1), SHARE)


def test_the_beta_distribution_is_scipys():
    rng = np.random.default_rng(0)
    for a, b in rng.uniform(0.2, 3000, size=(300, 2)):
        x = float(np.clip(rng.normal(a / (a + b), 0.02), 1e-6, 1 - 1e-6))
        assert shares.beta_cdf(x, a, b) == pytest.approx(special.betainc(a, b, x), abs=1e-9)


def test_a_share_of_none_reaches_above_none():
    assert bootstrap.interval(coin(200, 0), bootstrap.share(1, 0)) == pytest.approx([0, 1.8275], abs=1e-3)
    assert bootstrap.interval(coin(200, 200), bootstrap.share(1, 0)) == pytest.approx(
        [98.1725, 100], abs=1e-3
    )
    assert bootstrap.interval(coin(0, 0), bootstrap.share(1, 0)) == [0, 0]


@pytest.mark.parametrize("share", [0.005, 0.03, 0.4, 0.97])
def test_coverage_of_a_share(share):
    """At least what is promised, near 0 and 100 % too, where the bootstrap covers 65 % at 0.5 %."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        sample = np.stack([np.ones(200), rng.random(200) < share], axis=1)
        low, high = bootstrap.interval(sample, bootstrap.share(1, 0))
        hits += low <= 100 * share <= high
    assert hits / 300 >= 0.94


def test_coverage_of_a_share_of_answers_that_belong_together():
    """Six answers an image that hang together: the plain exact interval would be too narrow."""
    rng = np.random.default_rng(2)
    hits = plain = 0
    for _ in range(300):
        right = rng.binomial(6, rng.beta(1.6, 0.4, size=100))
        low, high = bootstrap.interval(np.stack([np.full(100, 6), right], axis=1), bootstrap.share(1, 0))
        hits += low <= 80 <= high
        low, high = shares.exact(right.sum(), 600)
        plain += low <= 0.8 <= high
    assert hits / 300 >= 0.93
    assert plain / 300 < 0.85


@pytest.mark.parametrize("share", [0.005, 0.01, 0.02, 0.98])
def test_coverage_of_answers_that_are_alike_within_an_image(share):
    """Six equal answers an image are one; of none in 100 images nothing says so but the images' number."""
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(300):
        right = 6 * (rng.random(100) < share)
        low, high = bootstrap.interval(np.stack([np.full(100, 6), right], axis=1), bootstrap.share(1, 0))
        hits += low <= 100 * share <= high
    assert hits / 300 >= 0.94


def test_contrast_of_four_runs_is_the_difference_of_two_differences():
    rng = np.random.default_rng(3)
    tables = [np.stack([np.ones(80), rng.random(80) < share], axis=1) for share in (0.2, 0.4, 0.6, 0.8)]
    result = bootstrap.contrast(tables, (-1, 1, 1, -1), SHARE)
    first, second = (bootstrap.difference(*tables[at : at + 2], SHARE)["difference"] for at in (0, 2))
    assert result["difference"] == pytest.approx(first - second)
    assert result["interval"][0] < result["difference"] < result["interval"][1]


def test_contrast_of_a_run_with_itself_is_nothing():
    counts = coin(40, 10)
    assert bootstrap.contrast([counts] * 4, (-1, 1, 1, -1), SHARE)["interval"] == [0, 0]


def seeded(shares: list[float], images: int = 200) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each seed a run that is right on such a share of the images, and one that is right on half."""
    return [(coin(images, round(images * share)), coin(images, images // 2)) for share in shares]


def test_one_seed_is_the_plain_contrast():
    (tables,) = seeded([0.3])
    assert bootstrap.across([tables], (1, -1), SHARE) == bootstrap.contrast(tables, (1, -1), SHARE)


def test_seeds_that_differ_widen_the_interval():
    alike, apart = (
        bootstrap.across(seeded(shares), (1, -1), SHARE)
        for shares in ([0.3, 0.3, 0.3, 0.3], [0.1, 0.2, 0.4, 0.5])
    )
    assert alike["difference"] == pytest.approx(-20)
    assert apart["difference"] == pytest.approx(-20)
    wide, narrow = (high - low for low, high in (apart["interval"], alike["interval"]))
    assert wide > 1.3 * narrow


def test_seeds_are_resampled_as_by_hand():
    """Without images to resample, the interval is that of the mean of seeds drawn with replacement."""
    shares = [10.0, 20.0, 60.0]
    tables = [(np.array([[100.0, share]]),) for share in shares]
    found = bootstrap.across(tables, (1.0,), SHARE, draws=4000)
    rng = np.random.default_rng(0)
    means = rng.choice(shares, size=(200_000, 3)).mean(axis=1)
    assert found["difference"] == pytest.approx(30)
    assert found["interval"] == pytest.approx(list(np.percentile(means, [2.5, 97.5])), abs=1.0)
