"""Real images' annotations as a COCO folder, and a language model with random weights."""

import json
from pathlib import Path

import pytest

from tests.evaluation.small_worlds import make_lm, write_coco


@pytest.fixture(scope="session")
def coco80(shared_data, tmp_path_factory) -> Path:
    """80 real COCO images with references and instances, as a COCO folder."""
    rows = [json.loads(line) for line in (shared_data / "coco80_captions_boxes.jsonl").open()]
    return write_coco(
        tmp_path_factory.mktemp("coco80"),
        {int(row["id"]): [box["category"] for box in row["instances"]] for row in rows},
        {int(row["id"]): row["captions"] for row in rows},
    )


@pytest.fixture(scope="session")
def lm_folder(tmp_path_factory) -> Path:
    """A random GPT-2 with 64 positions."""
    return make_lm(tmp_path_factory.mktemp("lm"), positions=64, bos="<|endoftext|>")
