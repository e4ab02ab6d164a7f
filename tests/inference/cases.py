"""A tiny LLaVA with four prompts of different length, answered by this project and by transformers."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
from transformers import LlavaForConditionalGeneration

from sare_jax.inference.features import encode_images
from sare_jax.inference.generate import Generated, generate
from sare_jax.models.interface import LoadedModel
from sare_jax.models.load import load_model
from tests.tiny_llava import BOS, EOS, image_token_id, write_llava

NEW, PAD = 64, 0


class Case(NamedTuple):
    theirs: LlavaForConditionalGeneration
    loaded: LoadedModel
    prompts: list[list[int]]
    pixels: np.ndarray
    features: np.ndarray


def make_case(folder: Path, shape: str) -> Case:
    """Text of 5, 9, 7 and 12 tokens around an image each."""
    model = write_llava(folder, shape, seed=1)
    loaded = load_model(folder, dtype=jnp.float32)
    rng = np.random.default_rng(2)
    places = [image_token_id()] * loaded.config.num_image_tokens
    texts = [rng.integers(260, 440, size).tolist() for size in (4, 8, 6, 11)]
    prompts = [[BOS, *text[: number + 1], *places, *text[number + 1 :]] for number, text in enumerate(texts)]
    side = loaded.config.vision.image_size
    pixels = rng.normal(size=(4, side, side, 3)).astype(np.float32)
    features = encode_images(loaded.graphdef, loaded.params, loaded.frozen, pixels)
    return Case(model, loaded, prompts, pixels, np.asarray(features))


def width(case: Case) -> int:
    return max(map(len, case.prompts))


def generated(case: Case, rows: list[int], width: int, **settings: Any) -> Generated:
    """Some prompts, answered in one batch padded to `width` on the right."""
    tokens = np.full((len(rows), width), PAD, np.int32)
    for place, row in enumerate(rows):
        tokens[place, : len(case.prompts[row])] = case.prompts[row]
    lengths = np.array([len(case.prompts[row]) for row in rows], np.int32)
    settings = {"max_new_tokens": NEW, "end_ids": (EOS,), "pad_id": PAD} | settings
    loaded = case.loaded
    return generate(
        loaded.graphdef, loaded.params, loaded.frozen, tokens, lengths, case.features[rows], **settings
    )


def run(case: Case, rows: list[int], width: int | None = None, **settings: Any) -> list[list[int]]:
    """Generated ids of each prompt, up to its end; whatever follows is checked to be padding."""
    longest = max(len(case.prompts[row]) for row in rows)
    ids, counts, ended = map(np.asarray, generated(case, rows, width or longest, **settings))
    ends, limit = settings.get("end_ids", (EOS,)), settings.get("max_new_tokens", NEW)
    assert ids.shape == (len(rows), limit)
    assert all((row[count:] == PAD).all() for row, count in zip(ids, counts, strict=True))
    if settings.get("stops") is None:
        last = ids[np.arange(len(rows)), counts - 1]
        np.testing.assert_array_equal(ended, np.isin(last, ends))
    assert ((counts == limit) | ended).all()
    return [row[:count].tolist() for row, count in zip(ids, counts, strict=True)]


def theirs(case: Case, rows: list[int], **settings: Any) -> list[list[int]]:
    """Transformers' ids of each prompt, answered in one batch padded on the left."""
    longest = max(len(case.prompts[row]) for row in rows)
    ids = torch.full((len(rows), longest), PAD)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, longest - len(case.prompts[row]) :] = torch.tensor(case.prompts[row])
        mask[place, longest - len(case.prompts[row]) :] = 1
    ends = settings.pop("end_ids", (EOS,))
    settings = {"max_new_tokens": NEW, "do_sample": False} | settings
    with torch.inference_mode():
        whole = case.theirs.generate(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=torch.from_numpy(case.pixels[rows].transpose(0, 3, 1, 2).copy()),
            eos_token_id=list(ends),
            pad_token_id=PAD,
            **settings,
        )
    return [_until(row, ends) for row in whole[:, longest:].tolist()]


def _until(ids: list[int], ends: tuple[int, ...]) -> list[int]:
    """Ids without what transformers fills up the batch with."""
    places = [place for place, number in enumerate(ids) if number in ends]
    if places:
        return ids[: places[0] + 1]
    while ids and ids[-1] == PAD:
        ids = ids[:-1]
    return ids
