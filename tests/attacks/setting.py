"""The tiny model with what an attack may use."""

import functools
from pathlib import Path

from sare_jax.attacks.interface import Pictures, Tools
from sare_jax.language.words import coco_table
from sare_jax.records.coco import Truth
from sare_jax.training.sharding import make_mesh
from tests import tiny_training as tiny

LOADED = tiny.tiny_llava()
ONE = make_mesh(1)
CURATED = tiny.curated(num_neg=20)
TRUTH = Truth(
    {1: ("cat", "dog", "cup", "fork", "bus", "person", "car", "bird")}, {}, {}, coco_table(), "test"
)
placed = functools.cache(functools.partial(tiny.spread, LOADED))  # one program a mesh


def tools(curated=CURATED, mesh=ONE) -> Tools:
    return Tools(
        loaded=placed(mesh),
        curated=curated,
        prompter=tiny.Letters(),
        features=tiny.features,
        truth=TRUTH,
        mesh=mesh,
        remat_policy=None,
        instruction="say it",
        name="attack",
        at=Path,
        pictures=lambda name: Pictures(Path(name), tiny.Letters(), tiny.features),
    )
