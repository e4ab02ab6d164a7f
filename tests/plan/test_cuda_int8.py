"""LLaVA-1.5-7B with int8 kernels on a card of 12 GB, by its own compiler; the card need not be there.

    JAX_PLATFORMS=cpu python -m pytest -m cuda_compile tests/plan/test_cuda_int8.py

needs JAX's CUDA wheels, and some minutes.
"""

import jax.numpy as jnp
import pytest

from sare_jax.models.shared.partition import flatten
from sare_jax.plan import bounds, cards, hlo
from tests.plan.test_cuda_compile import made

CARD, LIMIT = "rtx3060", 10e9
pytestmark = [
    pytest.mark.cuda_compile,
    pytest.mark.skipif(not cards.has_wheels(), reason=f"JAX's CUDA wheels are lacking: {cards.INSTALL}"),
]


@pytest.mark.parametrize("name", ["one caption", "efuf", "sare", "packed", "relearn", "lora"])
def test_one_row_at_a_time_takes_less_than_10_gb(name):
    """LoRA with r = 8: of LLaVA's r = 128 the adapters and their moments alone take 3.8 GB."""
    model, _, result = made(name, 1, CARD, 32, "int8", 8)
    print(f"\n{name}: {result.peak / 1e9:.2f} GB, {result.temporary / 1e9:.2f} of it temporary")
    assert result.peak <= LIMIT
    assert bounds.fits(result.peak, cards.card_named(CARD))
    # A layer's attention kernels may be bfloat16 where it runs backward; a stack of layers never is.
    stacks = {leaf.shape for leaf in flatten(model.frozen).values() if leaf.dtype == jnp.int8}
    assert len(stacks) == 3
    assert hlo.converted(result.text, stacks, ("f32", "bf16")) == []
    of_mlp = {shape[1:] for shape in stacks} - {(4096, 4096)}
    assert hlo.converted(result.text, of_mlp, ("f32", "bf16")) == []
