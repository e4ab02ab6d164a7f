"""Tiny models of every family with pictures and conversations about them, as the LoRA attack sees them."""

import functools
import json
from pathlib import Path

import jax.numpy as jnp

from sare_jax.attacks import Pictures, Tools
from sare_jax.inference.features import FeatureCache
from sare_jax.language.words import coco_table
from sare_jax.models.families import model_folder, open_source
from sare_jax.models.load import load_model, stacked_paths
from sare_jax.models.prompting import ImagePrompter
from sare_jax.records.coco import Truth
from sare_jax.settings import ModelConfig
from sare_jax.training.sharding import frozen_placement, make_mesh
from tests.models.minigpt4.tiny import write_minigpt4
from tests.tiny_llava import pictures, write_llava
from tests.tiny_owl import write_owl

SAID = [
    ("What is there?\n<image>", "A dog on a bench."),
    ("<image>\nWho sits here?", "Two dogs, and a man with a kitchen chair beside them."),
    ("<image>\nIs there a cat in the image?", "There is a cat on the table."),
    ("<image>\nWhat is he riding?", "He is riding a bicycle on the street."),
]


def write_model(family: str, folder: Path) -> ModelConfig:
    """Writes a random model of a family; returns its settings."""
    if family in ("llama2", "vicuna"):
        return write_minigpt4(folder, family).settings
    {"llava": write_llava, "mplug_owl": write_owl}[family](folder)
    return ModelConfig(folder=str(folder))


def write_conversations(folder: Path, turns: int = 1) -> Path:
    """Writes pictures, and a conversation about each whose later turns are those of the next ones."""
    images = folder / "images"
    images.mkdir(parents=True)
    for number, picture in enumerate(pictures(len(SAID))):
        picture.save(images / f"{number}.png")
    records = []
    for number in range(len(SAID)):
        said = [SAID[(number + turn) % len(SAID)] for turn in range(turns)]
        parts = [
            part
            for question, answer in said
            for part in ({"from": "human", "value": question}, {"from": "gpt", "value": answer})
        ]
        for part in parts[2:]:
            part["value"] = part["value"].replace("<image>", "").strip()
        records.append({"id": str(number), "image": f"{number}.png", "conversations": parts})
    (folder / "lessons.json").write_text(json.dumps(records))
    return folder / "lessons.json"


def make_tools(settings: ModelConfig, images: Path, devices: int = 1, fsdp: int = 1, **loading) -> Tools:
    """What an attack on the model may use, with `images` as the run's own."""
    source = open_source(model_folder(settings), settings)
    mesh = make_mesh(devices, fsdp)
    place = frozen_placement(mesh, source.family.trainable, stacked_paths(source.family, source.config))
    loaded = load_model(source, **{"dtype": jnp.float32, "max_trainable": 0.9, "placement": place, **loading})
    prompter = source.family.prompter(source, settings)
    processor = source.family.image_processor(source, settings)

    @functools.cache
    def look(name: str) -> Pictures:
        folder = Path(name) if name else images
        return Pictures(
            folder, ImagePrompter(prompter, processor, folder), FeatureCache(loaded, processor, folder)
        )

    return Tools(
        loaded=loaded,
        curated=None,
        prompter=look("").prompter,
        features=look("").features,
        truth=Truth({}, {}, {}, coco_table(), "none"),
        mesh=mesh,
        remat_policy=None,
        instruction="Please describe the image.",
        name="tiny lora",
        at=Path,
        pictures=look,
    )
