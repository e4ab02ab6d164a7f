"""An error is one line that any terminal shows and none obeys."""

import pytest

from sare_jax.errors import LONGEST_LINE, UserError

HOSTILE = {
    "long key": f"config.{'k' * 6000}: unknown key",
    "long quoted value": f"x: expected int, got {'a b ' * 5000!r}; give a number",
    "line ends": "a.json: the key 'a\nb\r\nc' is unknown",
    "terminal escapes": "reply was \x1b[2J\x1b]0;title\x07",
    "halves of characters": "name \ud83d is no name",
    "right to left": "evil\u202egnp.exe",
    "many words": "word " * 100_000,
    "many quotes": "'" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_is_quoted(name):
    line = str(UserError(HOSTILE[name]))
    assert line.isprintable()
    assert len(line) <= LONGEST_LINE
    assert max(map(len, line.split(" "))) <= 202
    line.encode()
    assert str(UserError(line)) == line


def test_a_long_quoted_part_is_cut_and_the_rest_stays():
    line = str(UserError(f"config.x: {'a b ' * 500!r} is no model's name; the model's folder is meant"))
    assert line.startswith("config.x: 'a b a b")
    assert line.endswith("' is no model's name; the model's folder is meant")
    assert len(line) < 270


def test_plain_lines_stay_as_they_are():
    line = "ε* ‖∇L‖ … – “x”: the model's file 'a' has dog's; 3 × 4 — naïve 🐶"
    assert str(UserError(line)) == line
