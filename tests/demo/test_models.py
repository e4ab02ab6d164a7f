"""The command that trains the demo's models."""

import sys

import pytest

from sare_jax.demo import models


@pytest.mark.parametrize(("word", "status"), [("--help", 0), ("stray", 2)])
def test_help_and_mistakes_train_nothing(word, status, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["models", word])
    monkeypatch.setattr(models, "_STEPS", (("no_such_script",),))
    with pytest.raises(SystemExit) as ended:
        models.main()
    assert ended.value.code == status
    assert "usage: python -m sare_jax.demo.models" in "".join(capsys.readouterr())
