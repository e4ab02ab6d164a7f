"""Python in README and docs runs and prints what it says, and the table of settings is that of the code."""

import dataclasses
import re
import shlex
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from sare_jax.attacks import ATTACKS, attack_of
from sare_jax.config import SECTIONS
from sare_jax.settings.building import has_kinds, kinds_of
from tests.test_command import read

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
TABLE = re.findall(r"^\| `([a-z_0-9.]+)` \| `([^`]+)` \| [^|]+ \|$", SETTINGS, re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    (page.name, block)
    for page in PAGES
    for block in re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    if "targeted_sam" in block
]


def test_readme_and_its_page_have_their_examples():
    assert [name for name, _ in BLOCKS] == ["README.md", "targeted_sam.md", "targeted_sam.md"]


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=["readme", "optax", "nnx"])
def test_examples_run_and_print_what_they_say(name, block, capsys):
    exec(compile(block, name, "exec"), {})
    printed = [float(number) for number in re.findall(r"-?\d+\.\d+", capsys.readouterr().out)]
    if "nnx" not in block:
        promised = [float(number) for number in re.findall(r"\d+\.\d+", block.split("#")[-1])]
        assert printed == pytest.approx(promised, abs=1e-3)
    else:
        unlearnt, learnt = printed
        assert learnt == pytest.approx(1, abs=0.1)
        assert abs(unlearnt - 1) > 0.5


def test_every_command_for_a_run_means_what_it_says():
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    pattern = re.compile(r"(?:main\.py|sare run|sare plan) (--config configs/(?:\\\n|[^\n`#])+)")
    commands = sorted({command.split("  ")[0] for page in pages for command in pattern.findall(page)})
    assert len(commands) >= 6
    overrides = 0
    for command in commands:
        arguments = shlex.split(command.replace("\\\n", " ").replace("--run ", "--run="))
        path, own = arguments[1], [word for word in arguments[2:] if word.startswith(("--config.", "--run"))]
        plain, changed = read(config=path), read(*own, config=path)
        keys = [word for word in own if not word.startswith("--config.model.folder=")]
        overrides += len(keys)
        assert (plain != changed) == bool(own), command
        for word in keys:
            assert read(*[other for other in own if other != word], config=path) != changed, word
    assert overrides >= 3


def test_the_config_file_of_the_page_stands_outside_of_the_repository(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "own_config.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "mine.py").write_text(block, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", ".", str(ROOT))])
    config = read(config=str(tmp_path / "mine.py"))
    assert (config.name, config.report.ours) == ("mine", "strong")
    assert config.runs["strong"].rho == 0.2


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
        if has_kinds(hint):
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
