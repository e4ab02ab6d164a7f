"""Part of the road on a tiny model folder, on any mesh and any number of processes; for `test_scale`.

python -m tests.scale_run FOLDER OUT DATA_PARALLEL FSDP STEPS [COORDINATOR NUM_PROCESSES PROCESS_ID]
"""

import gc
import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from sare_jax import hosts
from sare_jax.inference.features import FeatureCache
from sare_jax.inference.generate import generate
from sare_jax.models.interface import LoadedModel
from sare_jax.models.llava.family import FAMILY
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import load_model, stacked_paths
from sare_jax.models.prompting import ImagePrompter
from sare_jax.optim import AdamW
from sare_jax.records.curated import Curated, Rows, Sentences, Units, read_curated, write_curated
from sare_jax.settings.optim import OptimConfig
from sare_jax.training.remat import remat_policy
from sare_jax.training.sharding import frozen_placement, gathering, make_mesh, spread_rows
from sare_jax.training.unlearn import unlearn
from tests import tiny_llava

CAPTION = "A photo of a dog on a bench, two dogs beside him, a table and chairs."
PIECES = ["A photo of a dog on a bench", " two dogs beside him", " a table and chairs"]
IMAGES = 3
SETTINGS = OptimConfig(
    adamw=AdamW(1e-3), neg_weight=0.5, steps=4, batch_size=3, checkpoint_every=2, instruction="Describe it."
)


def write_world(root: Path) -> None:
    """A model folder and pictures."""
    tiny_llava.write_llava(root / "model", "grouped")
    (root / "images").mkdir()
    for number, picture in enumerate(tiny_llava.pictures(IMAGES)):
        picture.save(root / "images" / f"{number}.png")
    write_curated(root / "curated", curated())


def load(root: Path, mesh: jax.sharding.Mesh) -> LoadedModel:
    """The model, its weights streamed to where the mesh wants them."""
    source = open_llava(root / "model")
    placement = frozen_placement(mesh, r"projector/.*", stacked_paths(FAMILY, source.config))
    return load_model(source, dtype=jnp.float32, placement=placement)


def features(root: Path, loaded: LoadedModel) -> FeatureCache:
    return FeatureCache(loaded, LlavaImageProcessor.from_source(loaded.source), root / "images")


def train(root: Path, out: Path, mesh: jax.sharding.Mesh, loaded: LoadedModel, steps: int, **options):
    """A short unlearning run, going on from what is in `out`."""
    prompter = LlavaPrompter.from_source(loaded.source, "hub")
    processor = LlavaImageProcessor.from_source(loaded.source)
    return unlearn(
        loaded,
        read_curated(root / "curated"),
        ImagePrompter(prompter, processor, root / "images"),
        features(root, loaded),
        OptimConfig(**{**vars(SETTINGS), "steps": steps}),
        folder=out / "checkpoints",
        log=out / "log.jsonl",
        starting=out / "starting",
        name="tiny",
        mesh=mesh,
        remat_policy=remat_policy("dots", mesh),
        **options,
    )


def caption(root: Path, loaded: LoadedModel, params, mesh: jax.sharding.Mesh) -> list[list[int]]:
    """Greedy tokens for eight prompts of different lengths, three pictures in turn."""
    prompter = LlavaPrompter.from_source(loaded.source, "hub")
    prompts = [
        prompter.prompt("Describe" + " the image" * number, loaded.shape.num_image_tokens)
        for number in range(8)
    ]
    tokens = np.full((8, max(map(len, prompts))), prompter.pad_id, np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    seen = features(root, loaded)([f"{row % IMAGES}.png" for row in range(8)])
    with gathering(mesh):
        made = generate(
            loaded.graphdef,
            params,
            loaded.frozen,
            *spread_rows((tokens, lengths, seen), mesh),
            max_new_tokens=8,
            end_ids=(prompter.eos_id,),
            pad_id=prompter.pad_id,
        )
    return [
        ids[:count].tolist() for ids, count in zip(np.asarray(made.ids), np.asarray(made.counts), strict=True)
    ]


def curated() -> Curated:
    """One unit a set and picture, more or less."""
    rows = Rows([f"{number}.png" for number in range(IMAGES)], list(range(IMAGES)), [CAPTION] * IMAGES)
    start = [CAPTION.index(piece) for piece in PIECES]
    end = [s + len(piece) for s, piece in zip(start, PIECES, strict=True)]
    units = Units([0, 1, 2], start, end, ["thing"] * 3, start, end, [1.0] * 3)
    back = Units([2, 1, 0], start, end, ["thing"] * 3, start, end, [1.0] * 3)
    return Curated(rows, units, back, Sentences([0, 1], [30.0] * 2, [29.0] * 2), {})


def main(root: str, out: str, data: str, fsdp: str, steps: str, *cluster: str) -> None:
    if cluster:
        hosts.start(cluster[0], int(cluster[1]), int(cluster[2]))
    mesh = make_mesh(int(data), int(fsdp))
    loaded = load(Path(root), mesh)
    params = train(Path(root), Path(out), mesh, loaded, int(steps))
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    np.savez(Path(out) / f"process_{jax.process_index()}.npz", *leaves)
    said = f"{jax.process_index()} of {jax.process_count()}, {jax.device_count()} devices"
    print(said, file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    jax.config.update("jax_default_matmul_precision", "float32")
    jax.config.update("jax_disable_most_optimizations", True)
    flags.FLAGS(sys.argv[:1])
    gc.freeze()
    main(*sys.argv[1:])
