"""A language model with random weights."""

from pathlib import Path

import pytest

from tests.evaluation.small_worlds import make_lm


@pytest.fixture(scope="session")
def lm_folder(tmp_path_factory) -> Path:
    """A random GPT-2 with 64 positions."""
    return make_lm(tmp_path_factory.mktemp("lm"), positions=64, bos="<|endoftext|>")
