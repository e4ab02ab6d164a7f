import jax.numpy as jnp
import numpy as np
import pytest

from sare_jax.models.shared.target import Target


@pytest.mark.parametrize(
    ("rows", "devices", "taken"), [(1, 1, 1), (2, 1, 2), (5, 1, 5), (6, 1, 2), (6, 8, 6)]
)
def test_an_even_batch_goes_two_rows_at_a_time_on_one_device(rows, devices, taken):
    sizes = []

    def run(x):
        sizes.append(len(x))
        return {"double": 2 * x, "sum": x.sum(axis=1)}

    x = jnp.arange(rows * 3.0).reshape(rows, 3)
    made = Target("cpu", devices).few_rows(run, x)
    assert set(sizes) == {taken}
    np.testing.assert_array_equal(made["double"], 2 * x)
    np.testing.assert_array_equal(made["sum"], x.sum(axis=1))


def test_rows_too_large_for_the_cache_go_together():
    assert (
        Target("cpu").few_rows(lambda x: jnp.full(len(x), len(x)), jnp.zeros((4, 1 << 20))).tolist()
        == [4] * 4
    )
