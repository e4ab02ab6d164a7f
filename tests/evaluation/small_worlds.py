"""Annotations and language models small enough to write in a test."""

import json
from pathlib import Path

from sare_jax.records.coco import Truth, read_truth


def write_coco(
    folder: Path,
    instances: dict[int, list[str]],
    captions: dict[int, list[str]] | None,
    split: str = "val2014",
) -> Path:
    """Writes annotations in COCO 2014 format; no captions file where `captions` is None."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({name for listed in instances.values() for name in listed})
    ids = {name: number for number, name in enumerate(names, start=1)}
    content = {
        "images": [{"id": i, "file_name": f"COCO_{split}_{i:012d}.jpg"} for i in instances],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": [
            {"image_id": i, "category_id": ids[name]} for i, listed in instances.items() for name in listed
        ],
    }
    (folder / f"instances_{split}.json").write_text(json.dumps(content))
    if captions is not None:
        listed = [{"image_id": i, "caption": text} for i, texts in captions.items() for text in texts]
        (folder / f"captions_{split}.json").write_text(json.dumps({"annotations": listed}))
    return folder


def truth_of(tmp_path: Path, categories: dict[int, list[str]]) -> Truth:
    """Truth from a plain JSON of categories."""
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(categories))
    return read_truth(path)


def make_lm(folder: Path, *, positions: int, bos: str | None) -> Path:
    """A GPT-2 with random weights over bytes; its tokenizer has no pad token, as GPT-2's."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, "<|endoftext|>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"eos_token": "<|endoftext|>"} | ({"bos_token": bos} if bos else {})
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=positions,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=256,
        eos_token_id=256,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
