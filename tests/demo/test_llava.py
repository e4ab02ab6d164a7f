import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoProcessor, LlavaForConditionalGeneration

from sare_jax.demo import quality
from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.llava_folder import hub_name, make_model, save_llava
from sare_jax.demo.prompts import EVALUATION_PROMPT, chat
from sare_jax.demo.tokenizer import train_tokenizer
from sare_jax.demo.train_llava import WEIGHTS, lesson_losses, make_lessons, teach_all, teach_vision
from sare_jax.demo.world import build
from sare_jax.records.coco import read_truth


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(scenes=50)


def test_folder_comes_back_under_the_names_of_the_hub(tokenizer, tmp_path):
    torch.manual_seed(0)
    model = make_model(tokenizer)
    save_llava(model, tokenizer, tmp_path / "llava")
    again, info = LlavaForConditionalGeneration.from_pretrained(tmp_path / "llava", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value.half(), rtol=0, atol=0)
    with safe_open(tmp_path / "llava" / "model.safetensors", "pt") as stored:
        names = set(stored.keys())
        assert stored.metadata() == {"format": "pt"}
    assert {
        "language_model.model.embed_tokens.weight",
        "language_model.lm_head.weight",
        "multi_modal_projector.linear_1.weight",
        "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
    } <= names


def test_parameter_without_a_place_is_refused():
    with pytest.raises(ValueError, match="adapter"):
        hub_name("adapter.weight")


def test_shipped_folder_is_small_and_complete():
    names = {path.name for path in WEIGHTS.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "generation_config.json",
        "chat_template.jinja",
    } <= names
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 5e6


def test_chat_template_is_the_prompt_form():
    processor = AutoProcessor.from_pretrained(WEIGHTS)
    content = [{"type": "image"}, {"type": "text", "text": EVALUATION_PROMPT}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    assert text == chat(EVALUATION_PROMPT)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("quality") / "world"
    build(out, train=0, val=0, test=48, seed=123)
    return out


@pytest.fixture(scope="module")
def measured(world):
    torch.set_num_threads(1)
    return quality.measure(WEIGHTS, world)


def test_shipped_model_sees_and_makes_up(measured):
    # 48 images are few: the bounds are wider than the targets, which `quality` checks on 400.
    assert measured["chair"]["n"] == 48
    assert 25 <= measured["chair"]["chair_s"] <= 85
    assert measured["chair"]["recall"] >= 88
    assert min(pope["f1"] for pope in measured["pope"].values()) >= 80
    assert measured["adversarial"]["mean_words"] > measured["chair"]["mean_words"] + 8


def test_remarks_were_never_far_from_being_chosen(measured):
    choices = measured["choices"]
    assert choices["hallucinated"]["n"] > 10
    assert 0.15 < choices["hallucinated"]["mean"] < 0.5 < choices["harmless"]["mean"]
    assert choices["other"] < 0.05


def test_report_names_figures_and_missed_targets(measured):
    text = quality.report(measured)
    assert "48 held-out images" in text
    assert "POPE adversarial F1" in text
    failed = quality.report({**measured, "chair": {**measured["chair"], "recall": 12.3}})
    assert "12.3   target 90–100   MISSED" in failed


def test_choices_are_found_where_they_were_made(world):
    truth = read_truth(world / "annotations")
    image_id = min(truth.files)
    seen = min(truth.categories(image_id))
    unseen = min(set(CATEGORIES) - truth.categories(image_id))
    text = (
        f"In the kitchen, a {seen} stands on the left, and the air is fresh. A {unseen} rests in the middle. "
    )
    text += "Overall, the scene looks tidy."
    starts = quality._clause_starts({"image_id": image_id, "caption": text}, truth)
    assert [(start["name"], start["before"][-6:]) for start in starts] == [
        ("harmless", ", and "),
        ("hallucinated", "resh. "),
    ]


def test_both_phases_learn(tokenizer):
    torch.manual_seed(0)
    model = make_model(tokenizer).train()
    before = [p.clone() for p in model.model.vision_tower.parameters()]
    teach_vision(model.model.vision_tower, np.random.default_rng(0), steps=1)
    assert any((a != b).any() for a, b in zip(before, model.model.vision_tower.parameters(), strict=True))
    held_out = make_lessons(8, tokenizer, np.random.default_rng(9))
    with torch.no_grad():
        start = lesson_losses(model, held_out)[0].item()
    teach_all(model, tokenizer, np.random.default_rng(1), steps=3)
    with torch.no_grad():
        assert lesson_losses(model, held_out)[0].item() < start - 0.3
