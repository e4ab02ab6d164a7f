"""Small random Qwen-VL folders, written by transformers itself, and pictures of different proportions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

VOCABULARY, ROWS = 480, 496
CONTROLS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
IMAGE = "<|image_pad|>"
FEWEST, MOST = 4, 16  # image tokens
_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
WORDS = ["a", "cat", "dog", "cup", "car", "bus", "cow", "bird", "boat", "bowl", "is", "and"]
LINES = [
    "".join(f" {word}, {word}." for word in WORDS),
    "user\nPlease describe the image in great detail.",
    "assistant\nA photo of a dog on a bench, and a man riding a bicycle on the street.",
    "There is a man riding a bicycle on the street, and two dogs are sitting beside him, a table and chairs.",
    "Is there a cat in the image? Please answer yes or no. The kitchen has a table and chairs.",
]

VISION = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 4,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "num_position_embeddings": 36,
    "deepstack_visual_indexes": [0, 2],
}
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": ROWS,
}
ROPE = {"rope_type": "default", "rope_theta": 5e4, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
# Heads, taps, layers, widths, tables, merges, patches, tied and untied heads.
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"top": {"tie_word_embeddings": True}, "text": {"rms_norm_eps": 1e-5}},
    "one_tap": {"vision": {"deepstack_visual_indexes": [1], "depth": 2, "num_position_embeddings": 100}},
    "three_taps": {
        "vision": {"deepstack_visual_indexes": [0, 1, 3], "depth": 4},
        "text": {"num_hidden_layers": 5, "num_key_value_heads": 4},
    },
    "wide": {
        "vision": {"hidden_size": 48, "num_heads": 3, "patch_size": 6, "temporal_patch_size": 1},
        "text": {"hidden_size": 72, "head_dim": 12, "num_attention_heads": 6},
        "rope": {"mrope_section": [2, 2, 2], "rope_theta": 1e6},
    },
    "uneven": {"text": {"head_dim": 24, "num_key_value_heads": 1}, "rope": {"mrope_section": [5, 4, 3]}},
}


def torch_qwen3(shape: str = "plain", seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """A random model; weights large enough that greedy text varies and no two logits nearly tie."""
    parts = SHAPES[shape]
    text = TEXT | parts.get("text", {})
    vision = VISION | {"out_hidden_size": text["hidden_size"]} | parts.get("vision", {})
    config = Qwen3VLConfig(
        vision_config=vision,
        text_config=text | {"rope_parameters": ROPE | parts.get("rope", {})},
        **control_ids(),
        **parts.get("top", {}),
    )
    return randomised(Qwen3VLForConditionalGeneration(config), seed)


VISION_2_5 = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 44,
    "num_heads": 4,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 16,
    "fullatt_block_indexes": [1],
}
TEXT_2_5 = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": ROWS,
}
ROPE_2_5 = {"rope_type": "default", "rope_theta": 5e4, "mrope_section": [2, 2, 2]}
# Windows, whole layers, heads, widths, patches, layers, tied and untied heads.
SHAPES_2_5: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"top": {"tie_word_embeddings": True}, "text": {"rms_norm_eps": 1e-5}},
    "large_window": {"vision": {"window_size": 24, "fullatt_block_indexes": [0, 2]}},
    "small_window": {
        "vision": {"window_size": 8, "depth": 4, "fullatt_block_indexes": [3]},
        "text": {"num_hidden_layers": 4, "num_key_value_heads": 4},
    },
    "wide": {
        "vision": {"hidden_size": 48, "num_heads": 3, "patch_size": 6, "window_size": 24},
        "text": {"hidden_size": 72, "num_attention_heads": 6},
        "rope": {"rope_theta": 1e6, "mrope_section": [1, 2, 3]},
    },
    "one_key": {"text": {"num_key_value_heads": 1}, "vision": {"temporal_patch_size": 1, "num_heads": 2}},
}


def torch_qwen2_5(shape: str = "plain", seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """As `torch_qwen3`."""
    parts = SHAPES_2_5[shape]
    text = TEXT_2_5 | parts.get("text", {})
    vision = VISION_2_5 | {"out_hidden_size": text["hidden_size"]} | parts.get("vision", {})
    config = Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=text | {"rope_parameters": ROPE_2_5 | parts.get("rope", {})},
        **control_ids(),
        **parts.get("top", {}),
    )
    return randomised(Qwen2_5_VLForConditionalGeneration(config), seed)


def write_qwen2_5(folder: Path, shape: str = "plain", seed: int = 0) -> Qwen2_5_VLForConditionalGeneration:
    """As `write_qwen3`."""
    model = torch_qwen2_5(shape, seed)
    write_files(folder, model)
    return model


def randomised(model: Any, seed: int) -> Any:
    """A torch model with random weights, in evaluation."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(noise * 0.2 if parameter.ndim > 1 else parameter + 0.1 * noise)
    return model.eval()


def write_qwen3(folder: Path, shape: str = "plain", seed: int = 0) -> Qwen3VLForConditionalGeneration:
    """Writes a whole model folder; returns the torch model in it."""
    model = torch_qwen3(shape, seed)
    write_files(folder, model)
    return model


def write_files(folder: Path, model: Any) -> None:
    """Weights, tokenizer, image processor and generation_config.json of a model."""
    tokenizer = qwen_tokenizer()
    model.generation_config.eos_token_id = [
        tokenizer.token_to_id(name) for name in (CONTROLS[2], CONTROLS[0])
    ]
    model.generation_config.pad_token_id = tokenizer.token_to_id(CONTROLS[0])
    # What trained models never say, and random ones do.
    never = [tokenizer.token_to_id(name) for name in CONTROLS[3:]]
    model.generation_config.suppress_tokens = [*never, *range(tokenizer.get_vocab_size(), ROWS)]
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    fields = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": CONTROLS[2], "pad_token": CONTROLS[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    theirs_processor(model.config.vision_config).save_pretrained(folder)


def suppress_all_but_words(folder: Path) -> None:
    """Adds to generation_config.json that only the `WORDS`, commas and stops are said."""
    vocabulary = qwen_tokenizer().get_vocab()
    said = {vocabulary[name] for name in (*(f"Ġ{word}" for word in WORDS), ",", ".", CONTROLS[2])}
    path = folder / "generation_config.json"
    rules = json.loads(path.read_text()) | {"suppress_tokens": sorted(set(range(ROWS)) - said)}
    path.write_text(json.dumps(rules))


def theirs_processor(vision: Any) -> Qwen2VLImageProcessorPil:
    """The image processor of a tiny model, by transformers."""
    area = (vision.patch_size * vision.spatial_merge_size) ** 2
    return Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
        size={"shortest_edge": FEWEST * area, "longest_edge": MOST * area},
        image_mean=[0.5, 0.4, 0.6],
        image_std=[0.5, 0.3, 0.4],
    )


def control_ids() -> dict[str, int]:
    """The ids that config.json has for images."""
    keys = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    tokenizer = qwen_tokenizer()
    return {key: tokenizer.token_to_id(name) for key, name in zip(keys, CONTROLS[3:], strict=True)}


def qwen_tokenizer() -> Tokenizer:
    """Qwen's form: bytes as letters, words by a regular expression, control tokens behind the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(CONTROLS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES * 20, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in CONTROLS])
    return tokenizer


def pictures(sizes: list[tuple[int, int]], seed: int = 0) -> list[Image.Image]:
    """Noise over a gradient, of these (width, height)."""
    rng = np.random.default_rng(seed)
    images = []
    for width, height in sizes:
        slope = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, 3))
        images.append(Image.fromarray((slope + rng.integers(0, 56, slope.shape)).astype(np.uint8)))
    return images
