"""Trains the demo's CLIP: a small open_clip model that tells whether a crop shows what a text says.

It learns from drawn scenes alone: random crops on one side, short texts on the other ("A photo containing red
kite.", "A cup and a bowl in the kitchen."), with the sigmoid loss of SigLIP over all pairs of a batch. Which
pairs match is known from the scenes. It is kept small and trained for a short time, so that the scores of
grounded and hallucinated objects overlap, as those of real models do.

    python -m sare_jax.demo.train_clip

writes an open_clip folder (open_clip_config.json, open_clip_model.safetensors, tokenizer), which open_clip
loads by `local-dir:`, and prints the AUC on scenes that it has never seen, scored as the curation stage does.
The weights are stored in half precision.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

from sare_jax import files
from sare_jax.curation.audit import auc
from sare_jax.curation.clip import Clip, ClipConfig
from sare_jax.curation.scoring import ImageFeatures, encode_images, parts_of, score_objects
from sare_jax.curation.windows import Windows
from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.render import render
from sare_jax.demo.scenes import KINDS, SIZE, Object, Scene, sample_scene
from sare_jax.demo.vocabulary import write_tokenizer
from sare_jax.demo.writer import clauses
from sare_jax.progress import track

OUT = Path(__file__).parent / "weights" / "clip"
WINDOWS = Windows(patch=16, window=4, top_patches=4)
"""The geometry that fits this world's images: 25 windows of half the image's width."""

PROMPT = "A photo containing {}."
_IMAGE_SIZE = 64
_CONTEXT = 20
_SHOWN, _HIDDEN = 0.6, 0.15  # a crop shows an object from this share of its box on, and hides it below that


@dataclass(frozen=True)
class Text:
    """A text and what has to be in sight for it to be true.

    Attributes:
      words: the text itself, as CLIP reads it.
      objects: (category, colour) pairs; an empty colour stands for any.
      place: kind of scene, such as `kitchen`, that it speaks of; empty for any.
    """

    words: str
    objects: tuple[tuple[str, str], ...] = ()
    place: str = ""


@dataclass(frozen=True)
class Crop:
    """A part of a scene's picture.

    Attributes:
      pixels: uint8[S, S, 3], S the model's image size.
      place: kind of the scene, such as `kitchen`.
      shown: objects of which the crop holds at least `_SHOWN` of their box.
      partly: categories of objects that it shows in part; texts about them are neither true nor false.
    """

    pixels: np.ndarray
    place: str
    shown: tuple[Object, ...]
    partly: frozenset[str]


def main() -> None:
    """Trains, writes and measures the model."""
    parser = argparse.ArgumentParser(description="Train the demo's CLIP model.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # so small a model that a second thread mostly waits
    start = time.monotonic()
    train(options.out, steps=options.steps, seed=options.seed)
    size = sum(p.stat().st_size for p in options.out.iterdir()) / 1e6
    print(f"trained in {time.monotonic() - start:.0f} s; {size:.2f} MB in {options.out}")
    for mode, windows in (("windows", WINDOWS), ("whole", None)):
        print(f"AUC on held-out scenes, {mode}: {measure(options.out, windows):.3f}")


def train(out: Path, *, steps: int, seed: int, batch_size: int = 192, scenes: int = 3000) -> None:
    """Trains on crops of random scenes and writes an open_clip folder.

    Args:
      out: the open_clip folder to write; an older one is replaced once the new one is complete.
      steps: number of optimizer steps.
      seed: starts the draws of scenes, crops, texts and initial weights.
      batch_size: number of crops in a step, and of texts.
      scenes: number of scenes that are drawn once and cropped again in every step.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    drawn = [
        (scene, render(scene, rng))
        for scene in track((sample_scene(rng) for _ in range(scenes)), "scenes", unit="scene", total=scenes)
    ]
    with files.replacing(out) as draft:
        draft.mkdir(parents=True)
        vocabulary = write_tokenizer(draft, context=_CONTEXT)
        config = _config(vocabulary)
        files.write_json(draft / "open_clip_config.json", config)
        tokenizer = open_clip.get_tokenizer(f"local-dir:{draft}")
        model = open_clip.CLIP(**config["model_cfg"])
        bias = torch.nn.Parameter(torch.tensor(-4.0))
        optimizer = torch.optim.AdamW(
            [
                {"params": [*model.parameters()], "weight_decay": 0.02},
                {"params": [bias], "weight_decay": 0.0},
            ],
            lr=2e-3,
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
        for _ in track(range(steps), "clip", total=steps, unit="step"):
            picked = [drawn[i] for i in rng.integers(len(drawn), size=batch_size)]
            crops = [sample_crop(scene, image, rng) for scene, image in picked]
            texts = [sample_text(crop, rng) for crop in crops]
            loss = sigmoid_loss(model, bias, crops, texts, tokenizer)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=np.log(100))
        state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
        save_file(state, draft / "open_clip_model.safetensors", metadata={"format": "pt"})


def _config(vocabulary: int) -> dict:
    return {
        "model_cfg": {
            "embed_dim": 64,
            "init_logit_scale": float(np.log(10)),
            # A convolutional tower: in a few CPU minutes it learns these drawings better than a ViT does.
            "vision_cfg": {"image_size": _IMAGE_SIZE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
            "text_cfg": {
                "context_length": _CONTEXT,
                "vocab_size": vocabulary,
                "width": 64,
                "heads": 2,
                "layers": 2,
                "hf_tokenizer_name": "demo",  # open_clip then reads the tokenizer from this folder
            },
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"},
    }


def sample_crop(scene: Scene, image: Image.Image, rng: np.random.Generator) -> Crop:
    """Cuts a random square out of a picture, from half its width to all of it."""
    side = rng.uniform(0.42, 1.0) * SIZE
    left, top = rng.uniform(0, SIZE - side, 2)
    box = (left, top, left + side, top + side)
    pixels = image.resize((_IMAGE_SIZE, _IMAGE_SIZE), Image.Resampling.BICUBIC, box=box)
    shares = [_share_inside(item.box, box) for item in scene.objects]
    shown = tuple(item for item, share in zip(scene.objects, shares, strict=True) if share >= _SHOWN)
    partly = {i.category for i, share in zip(scene.objects, shares, strict=True) if _HIDDEN < share < _SHOWN}
    return Crop(np.asarray(pixels), scene.kind, shown, frozenset(partly))


def sample_text(crop: Crop, rng: np.random.Generator) -> Text:
    """Draws a text that is true of a crop."""
    if not crop.shown or rng.random() < 0.1:
        return Text(PROMPT.format(crop.place), place=crop.place)
    first, *rest = rng.permutation(np.array(crop.shown, object))[:2]
    colour = first.colour if rng.random() < 0.25 else ""
    name = f"{colour} {first.category}".strip()
    if rng.random() < 0.75:
        return Text(PROMPT.format(name), ((first.category, colour),))
    objects = ((first.category, colour), *((item.category, "") for item in rest))
    listed = " and ".join([f"a {name}", *(CATEGORIES[item.category].phrase for item in rest)])
    return Text(f"{listed} {KINDS[crop.place].place}.", objects, crop.place)


def sigmoid_loss(
    model: open_clip.CLIP,
    bias: torch.Tensor,
    crops: Sequence[Crop],
    texts: Sequence[Text],
    tokenizer: Callable[[list[str]], torch.Tensor],
) -> torch.Tensor:
    """Log loss of every pair being told apart, summed over texts and averaged over crops (SigLIP, Eq. 1)."""
    pixels = torch.from_numpy(np.stack([crop.pixels for crop in crops])).permute(0, 3, 1, 2).float()
    image = model.encode_image(pixels / 127.5 - 1, normalize=True)
    distinct = list(dict.fromkeys(texts))
    text = model.encode_text(tokenizer([t.words for t in distinct]), normalize=True)
    logits = model.logit_scale.exp() * image @ text.T + bias
    truth = matches(distinct, crops)
    sign = torch.where(truth == 1, 1.0, -1.0)
    return -(functional.logsigmoid(sign * logits) * (truth >= 0)).sum() / len(crops)


def matches(texts: Sequence[Text], crops: Sequence[Crop]) -> torch.Tensor:
    """Whether texts are true of crops: int[crops, texts] with 1 for yes, 0 for no, −1 where that is open."""
    facts = {fact: k for k, fact in enumerate(dict.fromkeys(f for t in texts for f in _claims(t)))}
    claimed = np.zeros((len(texts), len(facts)), np.float32)
    for row, text in zip(claimed, texts, strict=True):
        row[[facts[fact] for fact in _claims(text)]] = 1
    false, unclear = np.ones((2, len(crops), len(facts)), np.float32)
    for i, crop in enumerate(crops):
        holds = {("place", crop.place), *((o.category, "") for o in crop.shown)}
        holds |= {(o.category, o.colour) for o in crop.shown}
        for fact, k in facts.items():
            unclear[i, k] = fact not in holds and fact[0] in crop.partly
            false[i, k] = fact not in holds and fact[0] not in crop.partly
    truth = np.where(false @ claimed.T > 0, 0, np.where(unclear @ claimed.T > 0, -1, 1))
    return torch.from_numpy(truth)


def _claims(text: Text) -> list[tuple[str, str]]:
    return [*text.objects, *([("place", text.place)] if text.place else [])]


def _share_inside(box: Sequence[float], frame: Sequence[float]) -> float:
    width = min(box[2], frame[2]) - max(box[0], frame[0])
    height = min(box[3], frame[3]) - max(box[1], frame[1])
    return max(width, 0) * max(height, 0) / ((box[2] - box[0]) * (box[3] - box[1]))


def measure(folder: Path, windows: Windows | None, *, scenes: int = 200, seed: int = 12345) -> float:
    """AUC of object scores: grounded against hallucinated objects of the blind writer's descriptions.

    Args:
      folder: the open_clip folder to measure.
      windows: geometry of the windows that are scored; None scores the whole image.
      scenes: number of scenes, drawn with another seed than the training's.
      seed: starts the draw of these scenes.
    """
    clip, rng = Clip(ClipConfig(model=str(folder), device="cpu")), np.random.default_rng(seed)
    drawn = [(scene, render(scene, rng)) for scene in (sample_scene(rng) for _ in range(scenes))]
    names = sorted(CATEGORIES)
    phrases = clip.encode_phrases(names)
    scores: list[float] = []
    present: list[bool] = []
    parts = (part for _, image in drawn for part in parts_of(image, clip, windows))
    features = encode_images(parts, len(drawn), clip, 256)
    for (scene, _), image_features in zip(drawn, features, strict=True):
        assert isinstance(image_features, ImageFeatures)  # every drawn picture can be read
        told = [clause.category for clause in clauses(scene, rng) if clause.category]
        indices = [names.index(name) for name in told]
        scores.extend(score_objects(image_features, phrases[indices], clip, windows))
        present.extend(name in scene.categories for name in told)
    area = auc(np.array(scores, np.float64), np.array(present))
    assert area is not None, "the blind writer names both kinds of objects"
    return area


if __name__ == "__main__":
    main()
