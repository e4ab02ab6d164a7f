import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from sare_jax.curation.clip import Clip, ClipConfig, alignment, clip_id, hash_weights
from sare_jax.errors import UserError
from tests.curation.tiny_clip import make_clip_folder


@pytest.fixture(scope="module")
def clip(clip_folder) -> Clip:
    return Clip(ClipConfig(model=str(clip_folder), device="cpu"))


def test_cur_07_score_is_scale_times_cosine():
    image, text = np.array([[3.0, 4.0]], np.float32), np.array([[4.0, 3.0]], np.float32)
    assert alignment(image, text, 100.0)[0, 0] == pytest.approx(96.0)
    assert alignment(7 * image, text, 100.0)[0, 0] == pytest.approx(96.0)
    assert alignment(image, 7 * text, 100.0)[0, 0] == pytest.approx(96.0)


def test_cur_07_scores_are_open_clips_own_logits(clip, clip_folder):
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_folder}")
    rng = np.random.default_rng(1)
    images = [
        Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)) for size in ((40, 60), (32, 32), (9, 7))
    ]
    texts = ["A photo containing dog.", "A photo containing cat."]
    with torch.inference_mode():
        logits, _ = model.eval().get_logits(torch.stack([transform(i) for i in images]), tokenizer(texts))
    features = clip.encode_images(np.stack([clip.pixels(image) for image in images]))
    ours = alignment(features, clip.encode_phrases(["dog", "cat"]), clip.scale)
    np.testing.assert_allclose(ours, logits.numpy(), atol=1e-4)
    assert clip.scale == pytest.approx(100.0, rel=1e-5)


def test_cur_10_padding_does_not_leak(clip):
    alone = clip.encode_phrases(["dog"])
    batched = clip.encode_phrases(["dog", "very long old red umbrella very long old red umbrella"])
    assert np.abs(alone[0] - batched[0]).max() < 1e-5


def test_ids_name_the_model_and_no_path(clip_folder):
    assert clip_id(ClipConfig()) == "ViT-B-32-quickgelu/openai"
    assert clip_id(ClipConfig("ViT-B-32", "/a/b/weights.safetensors")) == "ViT-B-32/weights.safetensors"
    assert clip_id(ClipConfig(str(clip_folder))) == "local-dir:tiny-clip"
    assert clip_id(ClipConfig(f"local-dir:{clip_folder}")) == "local-dir:tiny-clip"


def test_weights_hash_changes_with_a_weight(clip, clip_folder):
    model = open_clip.create_model(f"local-dir:{clip_folder}")
    assert hash_weights(model) == clip.weights_hash
    with torch.no_grad():
        model.logit_scale.add_(1e-3)
    assert hash_weights(model) != clip.weights_hash


def test_config_decides_the_activation(tmp_path):
    a = Clip(ClipConfig(str(make_clip_folder(tmp_path / "gelu", seed=3)), device="cpu"))
    b = Clip(ClipConfig(str(make_clip_folder(tmp_path / "quick", seed=3, quick_gelu=True)), device="cpu"))
    assert a.weights_hash == b.weights_hash
    assert np.abs(a.encode_phrases(["dog"]) - b.encode_phrases(["dog"])).max() > 1e-4


def test_bf16_is_close(clip_folder, clip):
    half = Clip(ClipConfig(str(clip_folder), device="cpu", precision="bf16"))
    scores = [alignment(c.encode_phrases(["dog"]), clip.encode_phrases(["cat"]), 100.0) for c in (half, clip)]
    assert abs(scores[0] - scores[1]).max() < 2
    assert half.weights_hash == clip.weights_hash


def test_missing_folder_names_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"open_clip_config\.json and \*\.safetensors.*hf download"):
        Clip(ClipConfig(f"local-dir:{tmp_path / 'none'}"))


def test_unknown_name_and_unknown_tag():
    with pytest.raises(UserError, match="no model 'ViT-Z-9'"):
        Clip(ClipConfig("ViT-Z-9"))
    with pytest.raises(UserError, match="cannot load ViT-B-32/nobody"):
        Clip(ClipConfig("ViT-B-32", "nobody"))


def test_prompt_must_have_room_for_the_object(clip_folder):
    with pytest.raises(UserError, match=r"must hold \{object\}"):
        Clip(ClipConfig(str(clip_folder), prompt="A photo."))
