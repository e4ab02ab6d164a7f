"""Described cards: their facts, and what is said where nothing can be compiled for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from sare_jax.errors import UserError
from sare_jax.plan import cards

ROOT = Path(__file__).resolve().parents[2]


def test_every_card_is_whole_and_in_the_order_of_its_generation():
    named = {name: cards.card_named(name) for name in cards.names()}
    known = {"h200", "h100-80gb", "a100-80gb", "a100-40gb", "l40s", "rtx4090", "rtx3090", "t4"}
    known |= {"rtx4070", "rtx3060"}
    assert known <= set(named)
    assert named["h100-80gb"].capability == "9.0"
    assert named["t4"].capability < named["a100-40gb"].capability < named["rtx4090"].capability
    for card in named.values():
        # From 12 to 150 GB, from 300 GB/s to 5 TB/s, from 25 TFLOP/s to 1 PFLOP/s.
        assert 12e9 < card.memory < 152e9
        assert 3e11 < card.bandwidth < 5e12
        assert 2.5e13 < card.dense < 1e15
        assert f'"{card.name}"' in card.target_config()


def test_a_card_that_is_not_known_is_answered_with_those_that_are():
    with pytest.raises(UserError, match=r"--plan_gpu: 'h100' is not known; did you mean h100-80gb\?"):
        cards.card_named("h100")


def test_a_card_without_bfloat16_is_refused_with_the_way_out():
    with pytest.raises(UserError, match=r"model\.dtype: Tesla T4 has no products in bfloat16; set float32"):
        cards.require_dtype(cards.card_named("t4"), "bfloat16")
    cards.require_dtype(cards.card_named("t4"), "float32")
    cards.require_dtype(cards.card_named("rtx3090"), "bfloat16")


def test_missing_wheels_are_one_line_that_names_the_way_to_get_them(monkeypatch):
    monkeypatch.setattr(cards, "PLUGINS", ("no_such_plugin",))
    with pytest.raises(UserError, match=r"comes with JAX's CUDA wheels: pip install .*requirements/gpu\.txt"):
        cards.described(cards.card_named("t4"), 1)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--plan_gpu=t4"], "--plan_gpu: only with --plan; a run takes the devices that are there"),
        (["--plan", "--plan_gpu=k80"], "--plan_gpu: 'k80' is not known; "),
    ],
)
def test_flags_that_do_not_belong_together_are_one_line(flags, said):
    run = subprocess.run(
        [sys.executable, "main.py", "--config", "configs/llava_sare.py", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"error: {said}")
    assert run.stderr.count("\n") == 1
