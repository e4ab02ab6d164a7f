"""Which checkpoints are compared at equal footing."""

from sare_jax.stages.matched import closest


def test_the_most_alike_pair_has_one_final_checkpoint():
    assert closest({10: 40.0, 20: 20.0}, {10: 50.0, 20: 38.0}) == (10, 20, 2.0)
    assert closest({10: 60.0, 20: 48.0}, {10: 50.0, 20: 10.0}) == (20, 10, 2.0)


def test_of_equally_alike_pairs_the_latest():
    assert closest({10: 5.0, 20: 5.0}, {10: 5.0, 20: 5.0}) == (20, 20, 0.0)


def test_differences_below_the_limit_are_none():
    lengths = {10: 49.5, 20: 49.6}, {10: 49.4, 20: 49.52}
    assert closest(*lengths)[:2] == (10, 20)
    assert closest(*lengths, alike=0.5)[:2] == (20, 20)
