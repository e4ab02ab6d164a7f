"""A small open_clip folder with random weights, and captions to score with it."""

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

_TEXT = "a photo containing . dog cat frisbee red umbrella bench person kite tree car very long old"
WORDS = tuple(_TEXT.split())

CAPTIONS = (
    "A dog runs on the grass, and a cat sleeps. The frisbee is red.",
    "A person flies a kite. A dog and a bench are near the tree, while a cat waits.",
    "A car stands in front of a tree; a red umbrella lies on a bench!",
    "The dog looks at a person. The dog is old, and the car is red.",
    "A cat, a dog, a bench and a tree.",
    "A long kite hangs in the tree. A frisbee flies near a person.",
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word of `WORDS`."""
    tokens = ["<pad>", "<unk>", "<start>", *WORDS, "<end>"]
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 2), ("<end>", len(tokens) - 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<end>"
    )


def make_clip_folder(folder: Path, *, seed: int, quick_gelu: bool = False) -> Path:
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    model_cfg = {
        "embed_dim": 16,
        "quick_gelu": quick_gelu,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {
            "context_length": 16,
            "vocab_size": len(tokenizer),
            "width": 32,
            "heads": 2,
            "layers": 1,
            "hf_tokenizer_name": "local",
        },
    }
    config = {"model_cfg": model_cfg, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(seed)
    model = open_clip.CLIP(**model_cfg)
    with torch.no_grad():
        model.logit_scale.fill_(np.log(100))
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder


def write_captions(path: Path, records: list[dict]) -> None:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
