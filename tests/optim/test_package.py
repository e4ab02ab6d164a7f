"""The package as a stranger uses it: examples that run, and no other imports than jax and optax."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import optax
import pytest

import sare_jax
from sare_jax import optim

MODULES = [f"sare_jax.optim.{found.name}" for found in pkgutil.iter_modules(optim.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


def test_the_transform_has_an_example_for_optax_and_one_for_nnx():
    source = optim.targeted_sam.__doc__
    examples = doctest.DocTestParser().get_examples(source)
    assert any("for _ in range(20)" in example.source for example in examples)
    assert any("nnx.Optimizer" in example.source for example in examples)


@pytest.mark.parametrize(
    "statement",
    ["from sare_jax.optim import targeted_sam", f"import {', '.join(MODULES)}"],
    ids=["one", "all"],
)
def test_imports_jax_and_optax_alone(statement):
    code = f"{statement}; import sys; print(*sorted(sys.modules))"
    root = Path(sare_jax.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    loaded = run.stdout.split()
    tops = {name.split(".")[0] for name in loaded}
    assert {"jax", "optax"} <= tops
    assert tops.isdisjoint({"flax", "orbax", "grain", "transformers", "torch", "ml_collections"})
    ours = {name for name in loaded if name.startswith("sare_jax")}
    known = {"sare_jax", "sare_jax.lazy", "sare_jax.optim"}
    assert all(name in known or name.startswith("sare_jax.optim.") for name in ours)


def test_logged_looks_through_what_optax_wraps_around():
    injected = optax.inject_hyperparams(optim.targeted_sam)(rho=0.1, neg_weight=0.3)
    tx = optim.skip_nonfinite(optax.chain(injected, optax.adam(1e-2)))
    params = jnp.array([3.0, 4.0])
    _, state = tx.update(params, tx.init(params), params, neg_grad_fn=lambda p: p)
    values = optim.logged(state)
    assert set(values) == {"neg_grad_norm", "eps_norm", "cosine", "skipped", "skipped_in_a_row"}
    assert all(value.dtype == jnp.float32 and value.shape == () for value in values.values())
    assert values["neg_grad_norm"] == 5.0
    assert optim.logged(optax.adam(1e-2).init(params)) == {}


def test_all_that_is_exported_is_there_and_documented():
    for name in optim.__all__:
        assert getattr(optim, name).__doc__
