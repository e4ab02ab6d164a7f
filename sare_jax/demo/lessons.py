r"""Training batches for the demo LLaVA: fresh scenes, each with two descriptions and a few questions.

All conversations about one image share its tokens. They are packed in one row that begins with the image and
goes on with one branch a conversation; a branch sees the image and itself, at the positions that it would
have alone. So the loss is that of separate rows, while the image is read once:

    row        <s> USER: <image>×64 | \n prompt A ASSISTANT: answer A | \n prompt B ASSISTANT: answer B | …
    positions  0 … 67               | 68 69 …                         | 68 69 …                         | …
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from transformers import LlamaTokenizer

from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.conversations import QUESTIONS, descriptions, questions
from sare_jax.demo.llava_folder import IMAGE_TOKENS, PATCH
from sare_jax.demo.prompts import chat
from sare_jax.demo.render import render
from sare_jax.demo.scenes import SIZE, Scene, sample_scene
from sare_jax.demo.tokenizer import IMAGE
from sare_jax.rounding import round_up

_MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)  # CLIP's
_STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)
_NAMES = list(CATEGORIES)


@dataclass(frozen=True)
class Lessons:
    """A batch of packed rows.

    Attributes:
      pixels: float32[B, 3, H, W], normalised as CLIP does.
      tokens: int64[B, T], padded at the right; the image's slots hold the image token.
      positions: int64[B, T], rotary position of each token; branches share those behind the image.
      visible: bool[B, 1, T, T], true where a token (row) may look at another (column).
      targets: int64[B, T], the token to be predicted at each position, -100 where none is.
      is_question: bool[B, T], true in the branches that are questions.
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor
    targets: torch.Tensor
    is_question: torch.Tensor


def draw_scenes(count: int, rng: np.random.Generator) -> tuple[list[Scene], torch.Tensor]:
    """Fresh scenes and their images, float32[count, 3, H, W] normalised."""
    scenes = [sample_scene(rng) for _ in range(count)]
    return scenes, torch.stack([to_pixels(render(scene, rng)) for scene in scenes])


def to_pixels(image: Image.Image) -> torch.Tensor:
    """What CLIP's image processor makes of an image of the right size: float32[3, H, W]."""
    values = (np.asarray(image, np.float32) / 255 - _MEAN) / _STD
    return torch.from_numpy(values.transpose(2, 0, 1).copy())


def coverage(scenes: list[Scene]) -> torch.Tensor:
    """How much of each image patch a category's box covers, less what stands before it: float32[B, P, C]."""
    side = SIZE // PATCH
    covered = np.zeros((len(scenes), SIZE, SIZE, len(_NAMES)), bool)
    for canvas, scene in zip(covered, scenes, strict=True):
        for item in scene.objects:  # from far to near
            left, top, right, bottom = (round(value) for value in item.box)
            canvas[top:bottom, left:right] = False
            canvas[top:bottom, left:right, _NAMES.index(item.category)] = True
    patches = covered.reshape(len(scenes), side, PATCH, side, PATCH, -1).mean((2, 4), dtype=np.float32)
    return torch.from_numpy(patches.reshape(len(scenes), side * side, -1))


def make_lessons(
    count: int, tokenizer: LlamaTokenizer, rng: np.random.Generator, boldness: float = 1.0
) -> Lessons:
    """Draws `count` scenes, and descriptions (`boldness`: see `writer.describe`) and questions for each."""
    scenes, pixels = draw_scenes(count, rng)
    rows = [_row(scene, tokenizer, rng, boldness) for scene in scenes]
    length = round_up(max(len(row["tokens"]) for row in rows), 16)

    def padded(key: str, filler: int) -> torch.Tensor:
        out = np.full((count, length), filler, np.int64)
        for line, row in zip(out, rows, strict=True):
            line[: len(row[key])] = row[key]
        return torch.from_numpy(out)

    branch = padded("branch", -1)
    same = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return Lessons(
        pixels=pixels,
        tokens=padded("tokens", tokenizer.pad_token_id),
        positions=padded("positions", 0),
        visible=(same & causal)[:, None],
        targets=padded("targets", -100),
        is_question=padded("is_question", 0).bool(),
    )


def _row(
    scene: Scene, tokenizer: LlamaTokenizer, rng: np.random.Generator, boldness: float
) -> dict[str, list[int]]:
    """One packed row; `branch` is 0 for the shared beginning and 1, 2, … for the conversations."""
    conversations = descriptions(scene, rng, boldness) + questions(scene, rng)
    prompts = tokenizer([chat(prompt) for prompt, _ in conversations])["input_ids"]
    wholes = tokenizer([f"{chat(prompt)} {answer}" for prompt, answer in conversations])["input_ids"]
    start = prompts[0].index(tokenizer.convert_tokens_to_ids(IMAGE))
    shared = prompts[0][:start] + [prompts[0][start]] * IMAGE_TOKENS
    row = {
        "tokens": list(shared),
        "positions": list(range(len(shared))),
        "branch": [0] * len(shared),
        "targets": [-100] * len(shared),
        "is_question": [0] * len(shared),
    }
    for number, (prompt, whole) in enumerate(zip(prompts, wholes, strict=True), start=1):
        branch = [*whole[start + 1 :], tokenizer.eos_token_id]
        unsaid = len(prompt) - start - 2  # the prompt's last token predicts the first of the answer
        row["tokens"] += branch[:-1]
        row["targets"] += [-100] * unsaid + branch[unsaid + 1 :]
        row["positions"] += range(len(shared), len(shared) + len(branch) - 1)
        row["branch"] += [number] * (len(branch) - 1)
        row["is_question"] += [int(number > len(conversations) - QUESTIONS)] * (len(branch) - 1)
    return row
