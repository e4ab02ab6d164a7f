"""Loading a model draws no bar of transformers' own, and leaves other users' bars as they were."""

import ast
from pathlib import Path

from transformers.utils import logging

from sare_jax.evaluation.metrics import language_model
from sare_jax.shipped import PACKAGE


def loads(tree: ast.AST) -> list[int]:
    """Lines of the calls that load a model's weights, which say their dtype."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(".from_pretrained")
        and any(keyword.arg == "dtype" for keyword in node.keywords)
    ]


def test_a_model_is_loaded_without_a_bar(capfd):
    language_model.load.cache_clear()
    language_model.load(str(PACKAGE / "demo" / "weights" / "lm"))
    assert capfd.readouterr().err == ""
    assert logging.is_progress_bar_enabled()


def test_every_place_that_loads_a_model_keeps_the_bar_away():
    found = 0
    for path in sorted(Path(PACKAGE).rglob("*.py")):
        tree = ast.parse(path.read_text())
        blocks = [n for n in ast.walk(tree) if isinstance(n, ast.With) and "without_bars()" in ast.unparse(n)]
        assert sorted(loads(tree)) == sorted(line for block in blocks for line in loads(block)), path
        found += len(loads(tree))
    assert found >= 5
