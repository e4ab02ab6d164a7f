"""What a model's files say on generation: each key of transformers' GenerationConfig has a place."""

import json

import pytest
from transformers import GenerationConfig

from sare_jax.errors import UserError
from sare_jax.models.shared.generation import (
    FILE,
    FOLLOWED,
    IDLE,
    OVERRIDDEN,
    PENALTY,
    REFUSED,
    GenerationRules,
    read_generation,
    stated_generation,
)
from sare_jax.settings import DecodingConfig

KEYS = sorted(vars(GenerationConfig()))
# Values with which each refused key would change answers.
ASKED = {
    "encoder_repetition_penalty": 1.2,
    "no_repeat_ngram_size": 3,
    "encoder_no_repeat_ngram_size": 3,
    "min_length": 5,
    "min_new_tokens": 5,
    "num_return_sequences": 2,
    "num_beam_groups": 2,
    "diversity_penalty": 0.5,
    "guidance_scale": 1.5,
    "penalty_alpha": 0.6,
    "renormalize_logits": True,
    "token_healing": True,
    "bad_words_ids": [[7]],
    "force_words_ids": [[7]],
    "constraints": [1],
    "max_time": 1.0,
    "sequence_bias": [[[7], -1.0]],
    "exponential_decay_length_penalty": [5, 1.1],
    "watermarking_config": {"bias": 2.0},
    "forced_eos_token_id": 2,
    "forced_decoder_ids": [[1, 7]],
    "dola_layers": "high",
}
DRAWN = {"temperature": 0.9, "top_k": 50, "top_p": 0.6, "min_p": 0.1, "top_h": 0.4, "typical_p": 0.9}
OURS = {
    **{"max_length": 4096, "max_new_tokens": 512, "do_sample": True, "num_beams": 5, "stop_strings": ["###"]},
    **DRAWN,
    **{"epsilon_cutoff": 1e-3, "eta_cutoff": 1e-3, "length_penalty": 2.0, "early_stopping": True},
}


def folder_with(folder, said, name=FILE):
    (folder / name).write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_transformers_has_one_place(key):
    assert sum(key in table for table in (FOLLOWED, (PENALTY,), OVERRIDDEN, IDLE, REFUSED)) == 1


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_what_is_not_done_here_is_refused_by_name_unless_it_does_nothing(key, tmp_path):
    for idle in (None, *REFUSED[key]):
        assert read_generation(folder_with(tmp_path, {key: idle})).identity == GenerationRules().identity
    with pytest.raises(UserError, match=rf"generation_config\.json: {key} is ") as refused:
        read_generation(folder_with(tmp_path, {key: ASKED[key]}))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("key", OVERRIDDEN)
def test_what_our_settings_decide_is_kept_and_named_where_it_differs(key, tmp_path):
    together = {"do_sample": True, "num_beams": 5} | {key: OURS[key]}
    rules = read_generation(folder_with(tmp_path, together))
    assert rules.identity["overridden"] == together
    assert f"{key} {OURS[key]}" in rules.note(DecodingConfig(), 200)
    assert FILE in rules.note(DecodingConfig(), 200)


def test_settings_that_agree_are_not_named(tmp_path):
    said = {"num_beams": 5, "length_penalty": 2.0, "early_stopping": True, "max_new_tokens": 200, **DRAWN}
    rules = read_generation(folder_with(tmp_path, said))
    decoding = DecodingConfig(num_beams=5, length_penalty=2.0, early_stopping="yes")
    assert rules.note(decoding, 200) == ""  # nothing is drawn on either side
    assert rules.unlike(decoding, 100) == {"max_new_tokens": 200}
    assert rules.unlike(DecodingConfig(temperature=0.9, top_k=50), 200).keys() == (
        said.keys() - {"temperature", "top_k", "max_new_tokens"}
    )


@pytest.mark.parametrize("key", sorted(IDLE))
def test_what_makes_no_difference_changes_nothing(key, tmp_path):
    assert read_generation(folder_with(tmp_path, {key: 3})).identity == GenerationRules().identity


def test_unknown_keys_are_refused(tmp_path):
    with pytest.raises(UserError, match="answer_penalty is no key"):
        read_generation(folder_with(tmp_path, {"answer_penalty": 2}))


@pytest.mark.parametrize("key", FOLLOWED)
@pytest.mark.parametrize("bad", ["</s>", [2, "7"], -1, 2.0, [True], [[2]]])
def test_token_ids_that_are_none_are_refused(key, bad, tmp_path):
    with pytest.raises(UserError, match=f"{key} is"):
        read_generation(folder_with(tmp_path, {key: bad}))


def test_a_repetition_penalty_is_followed_but_not_with_beams(tmp_path):
    for idle in ({}, {PENALTY: None}, {PENALTY: 1.0}):
        assert read_generation(folder_with(tmp_path, idle)).identity == GenerationRules().identity
    rules = read_generation(folder_with(tmp_path, {PENALTY: 1.05}))
    assert rules.repetition_penalty == rules.identity[PENALTY] == 1.05
    rules.require_possible(DecodingConfig())
    with pytest.raises(
        UserError, match=r"repetition_penalty is 1\.05, .* set config\.decoding\.num_beams to 1"
    ):
        rules.require_possible(DecodingConfig(num_beams=3))
    for bad in (0, -1.0, "1.2", [1.2]):
        with pytest.raises(UserError, match=r"repetition_penalty is .*, need a number above 0"):
            read_generation(folder_with(tmp_path, {PENALTY: bad}))


def test_end_tokens_are_a_number_a_list_or_the_tokenizers(tmp_path):
    assert read_generation(folder_with(tmp_path, {"eos_token_id": 2})).end_ids(2) == (2,)
    assert read_generation(folder_with(tmp_path, {"eos_token_id": [7, 2, 7]})).end_ids(2) == (7, 2)
    assert read_generation(folder_with(tmp_path, {})).end_ids(2) == (2,)
    with pytest.raises(UserError, match=r"eos_token_id \[7\] lacks 2"):
        read_generation(folder_with(tmp_path, {"eos_token_id": 7})).end_ids(2)


def test_older_files_say_it_in_config_json(tmp_path):
    config = {
        "model_type": "llava",
        "eos_token_id": None,
        "temperature": 0.9,
        "transformers_version": "4.31.0",
        "text_config": {"eos_token_id": [2, 7], "temperature": 0.5, "hidden_size": 64},
    }
    folder_with(tmp_path, config, "config.json")
    theirs = GenerationConfig.from_pretrained(tmp_path, "config.json", _from_model_config=True)
    rules = read_generation(tmp_path)
    assert list(rules.ends) == theirs.eos_token_id == [2, 7]
    assert rules.overridden == {"temperature": theirs.temperature} == {"temperature": 0.9}
    assert rules.file.endswith("config.json")
    assert stated_generation(tmp_path) == {"eos_token_id": [2, 7], "temperature": 0.9}
    folder_with(tmp_path, {"eos_token_id": 2})
    assert read_generation(tmp_path).ends == (2,)
