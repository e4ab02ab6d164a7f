"""An exported LLaVA answers in transformers, to be compared with the model here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax.models.interface import ImageProcessor, Prompter
from sare_jax.models.prompting import ImagePrompter
from sare_jax.models.shared.generation import read_generation
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
    from transformers import LlavaForConditionalGeneration

    with without_bars():
        model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.stop_strings = None  # the run's own are cut off behind
    yield from generated(
        model,
        requests,
        about=ImagePrompter(prompter, processor, images_dir),
        end_ids=read_generation(folder).end_ids(prompter.eos_id),
        max_new_tokens=max_new_tokens,
        decoding=decoding,
    )


def generated(
    model: Any,
    requests: Sequence[Mapping[str, Any]],
    *,
    about: ImagePrompter,
    end_ids: Sequence[int],
    max_new_tokens: int,
    decoding: DecodingConfig,
) -> Iterator[str]:
    """Yields what a LLaVA of transformers, in float32, answers to requests (`image`, `instruction`)."""
    import torch

    prompter, processor, images_dir = about.prompter, about.processor, about.images_dir
    for request in requests:
        ids = torch.tensor([about.prompt(request["image"], request["instruction"])])
        pixels = np.stack(processor.load(images_dir, [request["image"]]))
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=torch.from_numpy(pixels).permute(0, 3, 1, 2),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=decoding.num_beams,
                **(_beam_settings(decoding) if decoding.num_beams > 1 else {}),
                pad_token_id=prompter.pad_id,
                eos_token_id=list(end_ids),
            )
        yield prompter.decode(out[0, ids.shape[1] :].tolist())


def _beam_settings(decoding: DecodingConfig) -> dict[str, Any]:
    early = {"no": False, "yes": True, "never": "never"}[decoding.early_stopping]
    return {"length_penalty": decoding.length_penalty, "early_stopping": early}
