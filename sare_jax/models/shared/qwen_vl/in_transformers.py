"""An exported Qwen-VL answers in transformers, to be compared with the model here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax.models.interface import ImageProcessor, Prompter
from sare_jax.models.prompting import ImagePrompter
from sare_jax.models.shared.generation import read_generation
from sare_jax.models.shared.qwen_vl.images import GRID
from sare_jax.progress.foreign import without_bars
from sare_jax.settings import DecodingConfig


def answers(
    folder: Path,
    requests: Sequence[Mapping[str, Any]],
    *,
    images_dir: Path,
    prompter: Prompter,
    processor: ImageProcessor,
    max_new_tokens: int,
    decoding: DecodingConfig,
) -> Iterator[str]:
    """Yields what transformers generates; see `interface.Answering`."""
    import torch
    from transformers import AutoModelForImageTextToText

    with without_bars():
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    about = ImagePrompter(prompter, processor, images_dir)
    rules = read_generation(folder)
    early = {"no": False, "yes": True, "never": "never"}[decoding.early_stopping]
    beams = {"length_penalty": decoding.length_penalty, "early_stopping": early}
    for request in requests:
        ids = torch.tensor([about.prompt(request["image"], request["instruction"])])
        (picture,) = processor.load(images_dir, [request["image"]])
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                mm_token_type_ids=(ids == prompter.image_token_id).int(),
                **as_transformers(picture, model.config.vision_config),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=decoding.num_beams,
                **(beams if decoding.num_beams > 1 else {}),
                pad_token_id=prompter.pad_id,
                eos_token_id=list(rules.end_ids(prompter.eos_id)),
            )
        yield prompter.decode(out[0, ids.shape[1] :].tolist())


def as_transformers(picture: np.ndarray, vision: Any) -> dict[str, Any]:
    """A picture as `QwenImageProcessor.load` gives it -> what transformers' models take.

    Args:
      picture: float32[N, 3 · side² + 2].
      vision: transformers' config of the vision tower.
    """
    import torch

    height, width = (int(number) for number in picture[0, -GRID:])
    side, frames = vision.patch_size, vision.temporal_patch_size
    pixels = picture[: height * width, None, :-GRID].reshape(height * width, 3, 1, side * side)
    repeated = np.repeat(pixels, frames, axis=2).reshape(height * width, -1)
    return {
        "pixel_values": torch.from_numpy(repeated),
        "image_grid_thw": torch.tensor([[1, height, width]]),
    }
