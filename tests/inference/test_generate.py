"""Generated ids against transformers' `generate`, and what a row may and may not depend on."""

import dataclasses

import jax
import numpy as np
import pytest

from sare_jax.inference.generate import generate
from sare_jax.settings import GREEDY, DecodingConfig
from tests.inference.cases import NEW, Case, make_case, run, theirs, width
from tests.tiny_llava import EOS, SHAPES, image_token_id

ALL = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return make_case(tmp_path_factory.mktemp("grouped"), "grouped")


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_equals_transformers_for_64_tokens(shape, tmp_path):
    case = make_case(tmp_path, shape)
    ours = run(case, ALL)
    assert ours == theirs(case, ALL)
    assert max(map(len, ours)) == NEW


def test_pa_01_batched_answers_equal_single_ones(case):
    together = run(case, ALL)
    for row in (0, 3):
        assert run(case, [row]) == [together[row]] == theirs(case, [row])
    assert run(case, [3, 1], width=width(case) + 7) == [together[3], together[1]]


def test_ge_02_image_places_do_not_count_as_new_tokens(case):
    whole = run(case, ALL)
    short = run(case, ALL, max_new_tokens=5)
    assert short == [ids[:5] for ids in whole]
    assert run(case, [0], max_new_tokens=1) == [whole[0][:1]]


def test_ge_07_greedy_and_the_same_every_time(case):
    assert run(case, ALL) == run(case, ALL)


def test_each_row_ends_at_its_own_eos(case):
    whole = run(case, ALL)
    eos = whole[0][9]
    expected = [ids[: ids.index(eos) + 1] if eos in ids else ids for ids in whole]
    assert len(set(map(len, expected))) > 1
    assert run(case, ALL, end_ids=(eos,)) == expected


def test_tk_12_ids_beyond_the_tokenizer_are_never_generated(case):
    """The likeliest tokens are ones without a text, as far as the text before them goes."""
    vocabulary = case.loaded.config.text.vocab_size
    free = run(case, ALL)
    barred = sorted({ids[place] for ids in free for place in (0, 3, 7)} | {image_token_id()})
    allowed = np.ones(vocabulary, bool)
    allowed[barred] = False
    ours = run(case, ALL, allowed=allowed)
    assert ours == theirs(case, ALL, suppress_tokens=barred)
    assert not set(barred) & {token for ids in ours for token in ids}


def test_one_compilation_serves_all_weights(case):
    first = run(case, ALL)
    compiled = generate._cache_size()
    params = jax.tree.map(lambda leaf: 2 * leaf, case.loaded.params)
    moved = case._replace(loaded=dataclasses.replace(case.loaded, params=params))
    assert run(moved, ALL) != first
    assert generate._cache_size() == compiled


def test_prompts_read_two_rows_at_a_time_give_the_same(case, monkeypatch):
    """As on a CPU that is one device; the tests' own simulates eight."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    ours = run(case, ALL, max_new_tokens=13)  # a limit of its own, so that it is compiled here
    assert ours == theirs(case, ALL, max_new_tokens=13)


@pytest.mark.parametrize("decoding", [GREEDY, DecodingConfig(num_beams=3)], ids=["greedy", "beams"])
def test_any_of_several_end_tokens_ends_a_row(case, decoding):
    whole = run(case, ALL, max_new_tokens=24, decoding=decoding)
    ends = (EOS, whole[0][9], whole[1][4])
    settings = {"max_new_tokens": 24, "end_ids": ends}
    ours = run(case, ALL, decoding=decoding, **settings)
    assert ours == theirs(case, ALL, num_beams=decoding.num_beams, **settings)
    assert ours != run(case, ALL, decoding=decoding, **settings | {"end_ids": ends[:2]})
    assert ours != run(case, ALL, decoding=decoding, **settings | {"end_ids": ends[::2]})


@pytest.mark.parametrize("decoding", [GREEDY, DecodingConfig(num_beams=3)], ids=["greedy", "beams"])
def test_tokens_that_may_not_come_first_come_later(case, decoding):
    first = sorted({run(case, [row], max_new_tokens=4)[0][place] for row in ALL for place in (0, 2)})
    opening = np.ones(case.loaded.config.text.vocab_size, bool)
    opening[first] = False
    ours = run(case, ALL, max_new_tokens=24, decoding=decoding, opening=opening)
    assert ours == theirs(
        case, ALL, max_new_tokens=24, num_beams=decoding.num_beams, begin_suppress_tokens=first
    )
    assert not set(first) & {ids[0] for ids in ours}
    assert set(first) & {token for ids in ours for token in ids}
