"""Greedy text against transformers' `generate`, and what a row may and may not depend on."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import LlavaForConditionalGeneration

from sare_jax.inference.features import encode_images
from sare_jax.inference.generate import generate
from sare_jax.models.load import LoadedLlava, load_llava
from tests.tiny_llava import BOS, EOS, image_token_id, write_llava

NEW, PAD = 64, 0


class Case(NamedTuple):
    theirs: LlavaForConditionalGeneration
    loaded: LoadedLlava
    prompts: list[list[int]]
    pixels: np.ndarray
    features: np.ndarray


@pytest.fixture(scope="module", params=["grouped", "tied", "full"])
def case(request, tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    theirs = write_llava(folder, request.param, seed=1)
    loaded = load_llava(folder, dtype=jnp.float32)
    rng = np.random.default_rng(2)
    places = [image_token_id()] * loaded.config.num_image_tokens
    # Text of 5, 9, 7 and 12 tokens around the image.
    texts = [rng.integers(260, 440, size).tolist() for size in (4, 8, 6, 11)]
    prompts = [[BOS, *text[: number + 1], *places, *text[number + 1 :]] for number, text in enumerate(texts)]
    side = loaded.config.vision.image_size
    pixels = rng.normal(size=(4, side, side, 3)).astype(np.float32)
    features = encode_images(loaded.graphdef, loaded.params, loaded.frozen, pixels)
    return Case(theirs, loaded, prompts, pixels, np.asarray(features))


def run(case: Case, rows: list[int], width: int, new: int = NEW, eos: int = EOS) -> list[list[int]]:
    """Generated ids of some prompts, answered in one batch padded to `width`."""
    tokens = np.full((len(rows), width), PAD, np.int32)
    for place, row in enumerate(rows):
        tokens[place, : len(case.prompts[row])] = case.prompts[row]
    ids, counts = generate(
        case.loaded.graphdef,
        case.loaded.params,
        case.loaded.frozen,
        tokens,
        np.array([len(case.prompts[row]) for row in rows], np.int32),
        case.features[rows],
        max_new_tokens=new,
        eos_id=eos,
        pad_id=PAD,
    )
    assert ids.shape == (len(rows), new)
    for row, count in zip(np.asarray(ids), counts, strict=True):
        assert (row[count:] == PAD).all()
    return [row[:count].tolist() for row, count in zip(np.asarray(ids), counts, strict=True)]


def reference(case: Case, row: int) -> list[int]:
    prompt = torch.tensor(case.prompts[row])[None]
    with torch.no_grad():
        whole = case.theirs.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            pixel_values=torch.from_numpy(case.pixels[row : row + 1].transpose(0, 3, 1, 2).copy()),
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )
    return whole[0, prompt.shape[1] :].tolist()


def width(case: Case) -> int:
    return max(map(len, case.prompts))


def test_greedy_equals_transformers_for_64_tokens(case):
    ours = run(case, [0, 1, 2, 3], width(case))
    assert ours == [reference(case, row) for row in range(4)]
    assert max(map(len, ours)) == NEW


@pytest.mark.parametrize("case", ["grouped"], indirect=True)
def test_pa_01_batched_answers_equal_single_ones(case):
    together = run(case, [0, 1, 2, 3], width(case))
    for row in range(4):
        assert run(case, [row], len(case.prompts[row])) == [together[row]]
    assert run(case, [3, 1], width(case) + 7) == [together[3], together[1]]


@pytest.mark.parametrize("case", ["grouped"], indirect=True)
def test_ge_02_image_places_do_not_count_as_new_tokens(case):
    whole = run(case, [0, 1, 2, 3], width(case))
    short = run(case, [0, 1, 2, 3], width(case), new=5)
    assert short == [ids[:5] for ids in whole]
    assert run(case, [0], width(case), new=1) == [whole[0][:1]]


@pytest.mark.parametrize("case", ["grouped"], indirect=True)
def test_ge_07_greedy_and_the_same_every_time(case):
    assert run(case, [0, 1, 2, 3], width(case)) == run(case, [0, 1, 2, 3], width(case))


@pytest.mark.parametrize("case", ["grouped"], indirect=True)
def test_each_row_ends_at_its_own_eos(case):
    whole = run(case, [0, 1, 2, 3], width(case))
    eos = whole[0][9]
    expected = [ids[: ids.index(eos) + 1] if eos in ids else ids for ids in whole]
    assert len(set(map(len, expected))) > 1
    assert run(case, [0, 1, 2, 3], width(case), eos=eos) == expected


@pytest.mark.parametrize("case", ["grouped"], indirect=True)
def test_one_compilation_serves_all_weights(case):
    first = run(case, [0, 1, 2, 3], width(case))
    compiled = generate._cache_size()
    params = jax.tree.map(lambda leaf: 2 * leaf, case.loaded.params)
    moved = case._replace(loaded=dataclasses.replace(case.loaded, params=params))
    assert run(moved, [0, 1, 2, 3], width(case)) != first
    assert generate._cache_size() == compiled
