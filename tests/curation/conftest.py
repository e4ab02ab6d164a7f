from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sare_jax.curation.objects import load_tagger
from tests.curation.tiny_clip import CAPTIONS, make_clip_folder, write_captions


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    return make_clip_folder(tmp_path_factory.mktemp("models") / "tiny-clip", seed=0)


@pytest.fixture(scope="session")
def nlp():
    return load_tagger()


@pytest.fixture
def world(tmp_path) -> tuple[Path, Path]:
    """Captions file and image folder: six images of different sizes, the last smaller than a window."""
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    sizes = [(96, 80), (80, 96), (64, 64), (100, 70), (128, 64), (40, 90)]
    records = []
    for i, ((width, height), caption) in enumerate(zip(sizes, CAPTIONS, strict=True)):
        blocks = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        blocks.resize((width, height), Image.Resampling.NEAREST).save(images / f"{i}.png")
        records.append({"image_id": i, "image": f"{i}.png", "caption": caption, "finish_reason": "stop"})
    path = tmp_path / "captions.jsonl"
    write_captions(path, records)
    return path, images
