"""Beam search against transformers': every penalty and stopping rule, in batches with unequal prompts."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from sare_jax.inference import beams
from sare_jax.inference.stopping import Ending
from sare_jax.settings import DecodingConfig
from tests.inference.cases import Case, make_case, run, theirs, width

ALL = [0, 1, 2, 3]
EARLY = {"no": False, "yes": True, "never": "never"}
PENALTIES = [1.0, 0.0, 2.0, -2.0]
LIMIT = 24


class Trigrams(PreTrainedModel, GenerationMixin):
    """A language of 16 tokens whose logits follow from the last two tokens; token 0 is the end."""

    config_class = PretrainedConfig
    vocabulary, eos, longest = 16, 0, 20

    def __init__(self, seed: int):
        super().__init__(PretrainedConfig())
        self.generation_config.eos_token_id = self.eos
        logits = np.random.default_rng(seed).normal(size=[self.vocabulary] * 3, scale=1.5)
        logits[..., self.eos] += 1.0
        self.table = torch.nn.Parameter(torch.from_numpy(logits.astype(np.float32)))
        self.post_init()

    def forward(self, input_ids, **_):
        return CausalLMOutput(logits=self.table[input_ids[:, :-1], input_ids[:, 1:]])


def beams_of_transformers(model: Trigrams, prompts: np.ndarray, decoding: DecodingConfig) -> list[list[int]]:
    with torch.inference_mode():
        out = model.generate(
            torch.from_numpy(prompts),
            attention_mask=torch.ones(prompts.shape),
            max_new_tokens=model.longest,
            num_beams=decoding.num_beams,
            length_penalty=decoding.length_penalty,
            early_stopping=EARLY[decoding.early_stopping],
            do_sample=False,
            use_cache=False,
            pad_token_id=model.eos,
        )
    rows = out[:, prompts.shape[1] :].tolist()
    return [ids[: ids.index(model.eos) + 1] if model.eos in ids else ids for ids in rows]


@partial(jax.jit, static_argnames="decoding")
def search(table: jax.Array, prompts: jax.Array, decoding: DecodingConfig) -> beams.Search:
    ending = Ending((Trigrams.eos,), None)

    def advance(state: beams.Search) -> beams.Search:
        before = jnp.broadcast_to(prompts[:, None], (*state.running.ids.shape[:2], 2))
        past = jnp.concatenate([before, state.running.ids], axis=2)
        pair = jax.lax.dynamic_slice_in_dim(past, state.step, 2, axis=2)
        log_probs = jax.nn.log_softmax(table[pair[..., 0], pair[..., 1]], axis=-1)
        return beams.advance(state, log_probs, decoding, ending)

    first = beams.start(len(prompts), decoding.num_beams, Trigrams.longest, Trigrams.eos)
    return jax.lax.while_loop(lambda state: state.open.any(), advance, first)


def test_search_equals_transformers_under_every_setting():
    languages = [Trigrams(seed).eval() for seed in range(4)]
    prompts = np.random.default_rng(0).integers(1, Trigrams.vocabulary, (20, 2))
    said = {}
    for setting in itertools.product(PENALTIES, EARLY):
        decoding = DecodingConfig(num_beams=5, length_penalty=setting[0], early_stopping=setting[1])
        said[setting] = []
        for language in languages:
            best = search(language.table.detach().numpy(), prompts, decoding).best
            ids, counts = np.asarray(best.ids[:, 0]), best.counts[:, 0]
            ours = [row[:count].tolist() for row, count in zip(ids, counts, strict=True)]
            assert ours == beams_of_transformers(language, prompts, decoding), setting
            said[setting].append(ours)
    # The languages are ones in which each of the settings matters.
    for early_stopping in EARLY:
        assert said[1.0, early_stopping] != said[0.0, early_stopping]
        assert said[1.0, early_stopping] != said[2.0, early_stopping]
    assert said[1.0, "no"] != said[1.0, "yes"]
    assert said[1.0, "no"] != said[1.0, "never"]
    assert said[0.0, "no"] != said[-2.0, "no"]


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> Case:
    return make_case(tmp_path_factory.mktemp("grouped"), "grouped")


@pytest.fixture(scope="module")
def eos(case) -> int:
    """A token into which beams run early in some rows, late in others."""
    return theirs(case, ALL, max_new_tokens=LIMIT, num_beams=5)[0][4]


def reference(case: Case, rows: list[int], decoding: DecodingConfig, **settings) -> list[list[int]]:
    return theirs(
        case,
        rows,
        max_new_tokens=LIMIT,
        num_beams=decoding.num_beams,
        length_penalty=decoding.length_penalty,
        early_stopping=EARLY[decoding.early_stopping],
        **settings,
    )


@pytest.mark.parametrize(("length_penalty", "early_stopping"), [(1.0, "yes"), (0.0, "no"), (2.0, "never")])
def test_beams_of_a_llava_equal_transformers(case, eos, length_penalty, early_stopping):
    decoding = DecodingConfig(num_beams=5, length_penalty=length_penalty, early_stopping=early_stopping)
    ours = run(case, ALL, max_new_tokens=LIMIT, end_ids=(eos,), decoding=decoding)
    assert ours == reference(case, ALL, decoding, end_ids=(eos,))


def test_beams_of_a_row_do_not_depend_on_its_batch(case, eos):
    settings = {"max_new_tokens": LIMIT, "end_ids": (eos,), "decoding": DecodingConfig(num_beams=3)}
    together = run(case, ALL, **settings)
    assert len(set(map(len, together))) > 1
    assert run(case, [0], **settings) == [together[0]]
    assert run(case, [3, 1], width=width(case) + 7, **settings) == [together[3], together[1]]


def test_tk_12_beams_leave_out_what_is_not_allowed(case, eos):
    decoding = DecodingConfig(num_beams=5)
    free = run(case, ALL, max_new_tokens=LIMIT, end_ids=(eos,), decoding=decoding)
    barred = sorted({ids[0] for ids in free} - {eos})
    allowed = np.ones(case.loaded.config.text.vocab_size, bool)
    allowed[barred] = False
    ours = run(case, ALL, max_new_tokens=LIMIT, end_ids=(eos,), decoding=decoding, allowed=allowed)
    assert ours == reference(case, ALL, decoding, end_ids=(eos,), suppress_tokens=barred)
    assert not set(barred) & {token for ids in ours for token in ids}
