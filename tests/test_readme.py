"""The README's Python runs, and its table of settings is that of the code."""

import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from sare_jax.attacks import ATTACKS, attack_of
from sare_jax.config import SECTIONS
from sare_jax.settings.building import kinds_of

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| `([a-z_0-9.]+)` \| `([^`]+)` \| [^|]+ \|$", README, re.MULTILINE)
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_there_are_two_examples():
    assert len(BLOCKS) == 2


@pytest.mark.parametrize("place", [0, 1], ids=["optax", "nnx"])
def test_examples_run_and_print_what_they_say(place, capsys):
    exec(compile(BLOCKS[place], f"README.md, example {place}", "exec"), {})
    said = [float(number) for number in re.findall(r"-?\d+\.\d+", capsys.readouterr().out)]
    if place == 0:
        promised = [float(number) for number in re.findall(r"\d+\.\d+", BLOCKS[0].split("#")[-1])]
        assert said == pytest.approx(promised, abs=1e-3)
    else:
        unlearnt, learnt = said
        assert learnt == pytest.approx(1, abs=0.1)
        assert abs(unlearnt - 1) > 0.5


def test_the_table_of_settings_has_the_defaults():
    defaults = dict(pair for name, kind in SECTIONS.items() for pair in _defaults(kind, name))
    for kind in ATTACKS:
        defaults |= dict(_defaults(attack_of(kind, "attack").settings, "attack"))
    assert len(TABLE) >= 15
    assert dict(TABLE) == {key: str(defaults.get(key, "no such key")) for key, _ in TABLE}


def _defaults(kind: type, where: str) -> Iterator[tuple[str, object]]:
    """Dotted keys and defaults of a settings dataclass, those of all kinds where it has a choice."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        key, hint = f"{where}.{field.name}", hints[field.name]
        if isinstance(hint, types.UnionType):
            for member in kinds_of(hint).values():
                yield from _defaults(member, key)
        elif dataclasses.is_dataclass(hint):
            yield from _defaults(hint, key)
        elif field.default_factory is not dataclasses.MISSING:
            yield from _flat(field.default_factory(), key)
        else:
            yield key, field.default


def _flat(values: dict, where: str) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        key = f"{where}.{name}"
        yield from _flat(value, key) if isinstance(value, dict) else [(key, value)]
