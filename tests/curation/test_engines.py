import sys

import pytest

from sare_jax.curation.engines import engine_of
from sare_jax.curation.scored import local
from sare_jax.extras import lacking


def test_this_process_is_the_local_engine():
    assert engine_of("local") is local


def test_without_ray_the_engine_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "sare_jax.curation.engine_ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        engine_of("ray")
    assert lacking(caught.value) == "needs ray: pip install 'sare_jax[curation,ray]'"
