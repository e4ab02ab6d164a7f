"""Sizes that are `auto` in a run: by the compiler of the devices that are there, and remembered."""

import json

import jax
import jax.numpy as jnp
import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.plan import sizer
from sare_jax.plan.sizer import DeviceSizer
from sare_jax.settings.auto import Lowered
from sare_jax.training.sharding import make_mesh

WIDTH = 256
ABOUT = {"length": WIDTH}


@jax.jit
def work(rows):
    """Takes memory in proportion to its rows: the sort's copy, which is no part of the result."""
    return jnp.sort(jnp.sin(rows[:, :, None] * rows[:, None]), axis=0).sum()


class Asked:
    """Lowers `work`, and remembers for which numbers."""

    def __init__(self):
        self.numbers = []

    def __call__(self, number):
        self.numbers.append(number)
        rows = jax.ShapeDtypeStruct((number, WIDTH), jnp.float32)
        return Lowered(work.lower(rows), rows)


def peak(number):
    return sizer._peak(Asked()(number))


@pytest.fixture
def memory(monkeypatch):
    """Has the machine seem to have so many bytes."""
    return lambda size: monkeypatch.setattr(sizer, "memory_there", lambda mesh: (size, "this machine"))


def of(record=None, default=16):
    return DeviceSizer(make_mesh(1), "config.caption.batch_size", default, {"model": "m"}, record)


def test_on_a_cpu_the_default_stays_where_it_fits(capsys):
    asked = Asked()
    chosen = of()
    assert chosen.rows(asked, multiple=1, most=1000, about=ABOUT) == 16
    assert asked.numbers == [16]
    assert chosen.rows(asked, multiple=8, most=5, about=ABOUT) == 8  # no row beyond those that have work
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith("config.caption.batch_size=auto: ") for line in said)
    assert len(said) == 4
    assert "asks the compiler what fits" in said[0]
    assert "16, by the " in said[1]


def test_it_is_lowered_to_what_the_compiler_says_fits(memory, capsys):
    memory(int(peak(10) / 0.9) + 1)
    assert of().rows(Asked(), multiple=1, most=1000, about=ABOUT) in (9, 10)
    assert of().rows(Asked(), multiple=4, most=1000, about=ABOUT) == 8
    memory(int(peak(1) / 2))
    with pytest.raises(UserError, match=r"auto: not even a batch of 1 leaves 10% of the 0\.00 GB"):
        of().rows(Asked(), multiple=1, most=1000, about=ABOUT)


def test_on_a_card_it_is_raised_to_what_the_compiler_says_fits(memory, monkeypatch):
    monkeypatch.setattr(DeviceSizer, "_on_cpu", False)
    memory(int(peak(100) / 0.9) + 1)
    assert 88 <= of().rows(Asked(), multiple=1, most=1000, about=ABOUT) <= 100
    assert of().rows(Asked(), multiple=1, most=40, about=ABOUT) == 40
    memory(1 << 40)
    assert of().rows(Asked(), multiple=3, most=10**6, about=ABOUT) == sizer.MOST_ROWS // 3 * 3


def test_the_fewest_parts_are_those_whose_part_fits(memory):
    def parts(number):
        return Asked()(24 // number)

    choosing = of()
    assert choosing.parts(parts, allowed=[1, 2, 3, 4, 6], about=ABOUT) == 1
    memory(int(peak(9) / 0.9))
    assert of().parts(parts, allowed=[1, 2, 3, 4, 6], about=ABOUT) == 3
    memory(int(peak(1) / 2))
    with pytest.raises(UserError, match="not even a step in 6 parts leaves"):
        of().parts(parts, allowed=[1, 2, 3, 4, 6], about=ABOUT)


def test_what_was_chosen_is_kept_for_what_it_was_chosen_for(tmp_path, memory, capsys):
    record = tmp_path / "batch_sizes.json"
    memory(int(peak(10) / 0.9) + 1)
    number = of(record).rows(Asked(), multiple=1, most=1000, about=ABOUT)
    [entry] = files.read_json(record)
    assert entry["chosen"] == number
    assert entry["asked"]["setting"] == "config.caption.batch_size"
    # The number that is kept counts, whatever would be found today.
    record.write_text(json.dumps([entry | {"chosen": 5}]))
    again = Asked()
    assert of(record).rows(again, multiple=1, most=1000, about=ABOUT) == 5
    assert again.numbers == []
    for other in (ABOUT | {"length": 3}, ABOUT | {"beams": 5}):
        assert of(record).rows(again, multiple=1, most=1000, about=other) == number
    memory(int(peak(7) / 0.9) + 1)  # another machine
    assert of(record).rows(again, multiple=1, most=1000, about=ABOUT) <= 7
    assert len(files.read_json(record)) == 4


@pytest.mark.parametrize("text", ["", "[", "{}", "[1]", '[{"chosen": "x", "asked": 1}]', '[{"asked": {}}]'])
def test_a_damaged_record_is_made_again(tmp_path, text):
    record = tmp_path / "batch_sizes.json"
    record.write_text(text)
    assert of(record).rows(Asked(), multiple=1, most=1000, about=ABOUT) == 16
    assert files.read_json(record)[-1]["chosen"] == 16
