"""The README's Python runs, and its table of settings is that of the code."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
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
