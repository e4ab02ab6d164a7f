"""Whole short runs equal PyTorch's from the definitions, packed and unpacked, whatever is trained."""

import copy
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from sare_jax import files
from sare_jax.attacks.interface import Pictures, Tools
from sare_jax.attacks.relearn import Relearn, relearn, sample_order
from sare_jax.data.batches import SETS, TokenSets, tokenize, unlearn_batches
from sare_jax.export.tensors import tuned_tensors
from sare_jax.inference.features import FeatureCache
from sare_jax.language.words import coco_table
from sare_jax.models.interface import LoadedModel
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.load import load_model
from sare_jax.models.prompting import ImagePrompter
from sare_jax.optim import AdamW
from sare_jax.records.coco import Truth
from sare_jax.records.curated import Curated, Rows, Sentences, Units, read_curated, write_curated
from sare_jax.settings.optim import OptimConfig
from sare_jax.training.sharding import make_mesh
from sare_jax.training.unlearn import unlearn
from tests import tiny_llava
from tests.oracle import torch_training as oracle

CAPTIONS = (
    "A dog sits on a bench, near a table. Two cats are in a box.",
    "There is a man riding a bicycle, and two dogs are sitting beside him.",
    "The kitchen has a table and chairs, two cups and a clock",
)
PIECES = {
    "neg": [(0, " near a table"), (1, " and two dogs are sitting beside him"), (2, " two cups and a clock")],
    "pos": [
        (0, "A dog sits on a bench"),
        (1, "There is a man riding a bicycle"),
        (0, " Two cats are in a box"),
    ],
}
# What is trained, here and by transformers' names; the second lies on both sides of the image embeddings.
TRAINED = {
    r"projector/.*": ("multi_modal_projector",),
    r"projector/.*|language_model/norm/.*": ("multi_modal_projector", "language_model.norm"),
}
STEPS, RATE, DECAY, INSTRUCTION = 5, 2e-3, 0.05, "Please describe the image."
ERASE = {"ascent": oracle.ascent, "unlikelihood": oracle.unlikelihood}


def units(chosen) -> Units:
    row = [row for row, _ in chosen]
    start = [CAPTIONS[row].index(text) for row, text in chosen]
    end = [s + len(text) for s, (_, text) in zip(start, chosen, strict=True)]
    return Units(row, start, end, ["thing"] * len(row), start, end, [1.0] * len(row))


class World:
    """A model folder, its pictures and curated sets, as both sides take them."""

    def __init__(self, root: Path):
        self.images = root / "images"
        self.images.mkdir()
        self.torch_model = tiny_llava.write_llava(root / "model")
        for number, picture in enumerate(tiny_llava.pictures(len(CAPTIONS))):
            picture.save(self.images / f"{number}.png")
        self.folder = root / "model"
        rows = Rows([f"{n}.png" for n in range(len(CAPTIONS))], list(range(len(CAPTIONS))), list(CAPTIONS))
        sent = Sentences([0, 2], [30.0, 30.0], [29.0, 29.0])
        written = Curated(rows, units(PIECES["neg"]), units(PIECES["pos"]), sent, {})
        write_curated(root / "curated", written)
        self.curated = read_curated(root / "curated")

    def tools(self, trained: str) -> Tools:
        loaded = load_model(self.folder, dtype=jnp.float32, trainable=trained)
        processor = LlavaImageProcessor.from_source(loaded.source)
        prompter = ImagePrompter(LlavaPrompter.from_source(loaded.source, "hub"), processor, self.images)
        features = FeatureCache(loaded, processor, self.images)
        return Tools(
            loaded=loaded,
            curated=self.curated,
            prompter=prompter,
            features=features,
            truth=Truth({}, {}, {}, coco_table(), "none"),
            mesh=make_mesh(1),
            remat_policy=None,
            instruction=INSTRUCTION,
            name="oracle",
            at=Path,
            pictures=lambda name: Pictures(Path(name), prompter, features),
        )

    def pixels(self, name: str) -> torch.Tensor:
        processor = LlavaImageProcessorPil.from_pretrained(self.folder)
        return processor(Image.open(self.images / name), return_tensors="pt")["pixel_values"][0]

    def unit(self, row: dict) -> oracle.Unit:
        """A row of one unit, without its padding."""
        return oracle.Unit(
            tuple(row["tokens"][: row["end"]].tolist()), int(row["start"]), self.pixels(str(row["image"]))
        )

    def trainer(self, names: tuple[str, ...], method: oracle.Method) -> oracle.Trainer:
        model = copy.deepcopy(self.torch_model)
        return oracle.Trainer(model, lambda name: any(part in name for part in names), method)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("oracle"))


def stream(world: World, sets: TokenSets, packing: str) -> list[dict[str, list[oracle.Unit]]]:
    """The units of each set in each step. Packed, all captions are in every step, and so are all units."""
    if packing == "packed":
        everything = {
            kind: [world.unit(getattr(sets, kind).row(i)) for i in range(len(getattr(sets, kind)))]
            for kind in SETS
        }
        return [everything] * STEPS
    return [
        {
            kind: [world.unit({key: x[i] for key, x in part.items()}) for i in np.flatnonzero(part["valid"])]
            for kind, part in batch.items()
        }
        for batch in unlearn_batches(sets, batch_size=2, steps=STEPS, seed=0)
    ]


def assert_equal(loaded: LoadedModel, params: dict, trainer: oracle.Trainer, start: dict) -> None:
    """Tuned weights under their published names, as close as rounding lets two implementations be."""
    theirs = {name: p.detach().numpy() for name, p in zip(trainer.names, trainer.params, strict=True)}
    ours = tuned_tensors(loaded.source, params)
    before = tuned_tensors(loaded.source, start)
    assert len(theirs) == len(ours)
    for name, value in ours.items():
        tail = name.removeprefix("language_model.model.")
        (twin,) = (their for their in theirs if their.endswith(tail))
        moved = np.abs(theirs[twin] - before[name]).max()
        assert moved > RATE  # several steps were made
        np.testing.assert_allclose(value, theirs[twin], rtol=0, atol=4e-3 * moved, err_msg=name)


PROJECTOR, BOTH = TRAINED
CASES = [  # objective, ρ, packing, what is trained: each ρ and what is trained with each packing
    ("ascent", 0.0, "unpacked", PROJECTOR),
    ("ascent", 0.0, "packed", BOTH),
    ("ascent", 0.05, "unpacked", PROJECTOR),
    ("ascent", 0.05, "packed", PROJECTOR),
    ("ascent", 0.05, "unpacked", BOTH),
    ("ascent", 0.05, "packed", BOTH),
    ("unlikelihood", 0.05, "packed", PROJECTOR),
]


@pytest.mark.parametrize(("objective", "rho", "packing", "trained"), CASES)
def test_a_run_equals_torch(world, tmp_path, objective, rho, packing, trained):
    """EFUF (Eq. 1), SARE (Eq. 8) and unlikelihood with Targeted-SAM: losses, norms and weights."""
    tools = world.tools(trained)
    settings = OptimConfig(
        objective=objective,
        rho=rho,
        neg_weight=0.4,
        sent_weight=0.2,
        adamw=AdamW(RATE, DECAY),
        steps=STEPS,
        packing=packing,
        batch_size=2 if packing == "unpacked" else len(CAPTIONS),
        instruction=INSTRUCTION,
    )
    params = unlearn(
        tools.loaded,
        world.curated,
        tools.prompter,
        tools.features,
        settings,
        folder=tmp_path / "checkpoints",
        log=tmp_path / "log.jsonl",
        starting=tmp_path / "starting",
        name="oracle",
        mesh=tools.mesh,
    )
    method = oracle.Method(ERASE[objective], rho, 0.4, 0.2, RATE, DECAY)
    trainer = world.trainer(TRAINED[trained], method)
    sets = tokenize(world.curated, tools.prompter, INSTRUCTION)
    log = files.read_jsonl(tmp_path / "log.jsonl")
    for record, batch in zip(log, stream(world, sets, packing), strict=True):
        expected = trainer.unlearn(batch)
        for key in ("neg", "pos", "sent") + (("neg_grad_norm",) if rho else ()):
            assert record[key] == pytest.approx(expected[key], rel=2e-4, abs=1e-6), (record["step"], key)
    assert_equal(tools.loaded, params, trainer, tools.loaded.params)


@pytest.mark.parametrize("trained", TRAINED)
def test_relearning_equals_torch(world, trained):
    tools = world.tools(trained)
    settings = Relearn(num_samples=3, adamw=AdamW(RATE, 0.0), batch_size=1)
    params = relearn(tools, tools.loaded.params, settings).params
    trainer = world.trainer(TRAINED[trained], oracle.Method(oracle.ascent, 0, 0, 0, RATE, 0.0))
    sets = tokenize(world.curated, tools.prompter, INSTRUCTION, kinds=("neg",))
    for index in sample_order(3, 3, settings.seed):
        trainer.finetune([world.unit(sets.neg.row(int(index)))])
    assert_equal(tools.loaded, params, trainer, tools.loaded.params)
