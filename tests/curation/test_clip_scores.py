import pathlib
import pickle
import shutil

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from sare_jax.curation.clip import Clip, ClipConfig, alignment, clip_id, hash_weights
from sare_jax.curation.texts import encode_text, is_cut
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


def test_cur_09_what_is_too_long_keeps_start_and_end_and_is_told():
    tokenizer = open_clip.get_tokenizer("ViT-B-32-quickgelu")
    short, long = " ".join(["dog"] * 70), " ".join(["dog"] * 80)
    ids = tokenizer([short, long])
    assert is_cut(tokenizer, [short, long, "a", " ".join(["dog"] * 75)]).tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert ids.shape == (2, 77)
    assert (ids[1, 0], ids[1, 76], ids[1].argmax()) == (49406, 49407, 76)
    whole = tokenizer([long], context_length=100)[0]
    assert torch.equal(ids[1, :76], whole[:76])
    assert torch.equal(ids[0, :72], tokenizer([short], context_length=100)[0, :72])
    assert ids[0].argmax() == 71


def test_cur_09_cut_phrases_are_named(clip):
    long = "very long old red umbrella"
    assert clip.cut_phrases(["dog", long, f"{long} {long} {long}", "cat"]) == [f"{long} {long} {long}"]
    assert clip.cut_phrases([]) == []


def test_padding_is_not_computed_and_changes_nothing(clip, clip_folder):
    model = open_clip.create_model(f"local-dir:{clip_folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{clip_folder}")(
        ["A photo containing dog.", "A photo containing very long old red umbrella.", "dog"]
    )
    lengths = []
    model.token_embedding.register_forward_hook(lambda module, inputs, output: lengths.append(output.shape))
    with torch.inference_mode():
        features = encode_text(model, tokens)
        np.testing.assert_allclose(features, model.encode_text(tokens), atol=1e-5)
    assert [tuple(shape) for shape in lengths] == [(3, 11, 32), (3, 16, 32)]


def test_models_with_another_text_tower_keep_the_padding():
    torch.manual_seed(0)
    text = {"context_length": 16, "vocab_size": 30, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    not_causal = text | {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}
    model = open_clip.CustomTextCLIP(embed_dim=16, vision_cfg=vision, text_cfg=not_causal).eval()
    tokens = torch.tensor([[2, 5, 29] + [0] * 13])
    with torch.inference_mode():
        np.testing.assert_array_equal(encode_text(model, tokens), model.encode_text(tokens))


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


def test_cur_11_config_decides_the_activation(tmp_path):
    a = Clip(ClipConfig(str(make_clip_folder(tmp_path / "gelu", seed=3)), device="cpu"))
    b = Clip(ClipConfig(str(make_clip_folder(tmp_path / "quick", seed=3, quick_gelu=True)), device="cpu"))
    assert a.weights_hash == b.weights_hash
    assert np.abs(a.encode_phrases(["dog"]) - b.encode_phrases(["dog"])).max() > 1e-4
    at_one = [float(clip._model.transformer.resblocks[0].mlp.gelu(torch.ones(1))) for clip in (a, b)]
    assert at_one == pytest.approx([0.84134, 0.84580], abs=1e-5)


@pytest.mark.parametrize(("precision", "least", "most"), [("bf16", 1e-3, 1), ("fp16", 1e-4, 0.2)])
def test_half_precision_is_close(clip_folder, clip, precision, least, most):
    half = Clip(ClipConfig(str(clip_folder), device="cpu", precision=precision))
    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)
    scores = [
        alignment(c.encode_images(pixels), c.encode_phrases(["dog", "cat"]), c.scale) for c in (half, clip)
    ]
    assert least < np.abs(scores[0] - scores[1]).max() < most
    assert half.weights_hash == clip.weights_hash


def test_missing_folder_names_what_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"open_clip_config\.json and \*\.safetensors.*hf download"):
        Clip(ClipConfig(f"local-dir:{tmp_path / 'none'}"))


class _Touch:
    """What a malicious pickle does when it is read without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("content", ["pickle", "torch", "garbage", "empty"])
def test_a_folder_with_a_pickle_is_one_line_and_nothing_is_executed(clip_folder, tmp_path, content):
    folder, touched = tmp_path / "clip", tmp_path / "touched"
    shutil.copytree(clip_folder, folder)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    file = folder / "open_clip_pytorch_model.bin"
    if content == "torch":
        torch.save({"state_dict": _Touch(touched)}, file)
    else:
        file.write_bytes({"pickle": pickle.dumps(_Touch(touched)), "garbage": b"GARB" * 9}.get(content, b""))
    with pytest.raises(UserError) as caught:
        Clip(ClipConfig(str(folder), device="cpu"))
    assert str(folder) in str(caught.value) or "local-dir:clip" in str(caught.value)
    if content != "empty":
        assert "give open_clip_model.safetensors instead" in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert not touched.exists()


def test_unknown_name_and_unknown_tag():
    with pytest.raises(UserError, match="no model 'ViT-Z-9'"):
        Clip(ClipConfig("ViT-Z-9"))
    with pytest.raises(UserError, match="cannot load ViT-B-32/nobody"):
        Clip(ClipConfig("ViT-B-32", "nobody"))


def test_unusable_device():
    with pytest.raises(UserError, match="--device tpu9: PyTorch cannot use it here"):
        Clip(ClipConfig(device="tpu9"))


def test_prompt_must_have_room_for_the_object(clip_folder):
    with pytest.raises(UserError, match=r"must hold \{object\}"):
        Clip(ClipConfig(str(clip_folder), prompt="A photo."))
