"""The demo LLaVA's tokenizer: LLaMA's kind of BPE (`▁` for a space, bytes as the fallback), only small."""

import json
from collections.abc import Iterator

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaTokenizer

from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.prompts import STYLES, chat, question
from sare_jax.demo.references import references
from sare_jax.demo.scenes import sample_scene
from sare_jax.demo.writer import describe

VOCABULARY = 832
IMAGE, PAD = "<image>", "<pad>"
_CONTROLS = ("<unk>", "<s>", "</s>")
_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
_PROMPT_REPEATS = 2000  # a prompt's words count as much as words of the descriptions


def train_tokenizer(*, seed: int = 0, scenes: int = 1500) -> LlamaTokenizer:
    """Learns merges from the world's texts.

    Args:
      seed: starts the draw of the scenes whose texts the merges are learnt from.
      scenes: number of scenes that are drawn.

    Returns:
      A tokenizer of `VOCABULARY` entries at most: <unk> 0, <s> 1, </s> 2, 256 bytes, pieces, then <image> and
      <pad>. Any text can be tokenized and comes back, but for a space at its start, as with LLaMA's.
    """
    learner = Tokenizer(models.BPE(unk_token=_CONTROLS[0]))
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Merges stay inside words; else frequent phrases would become single tokens.
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("▁", "merged_with_next"),
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Punctuation(),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2, special_tokens=[*_CONTROLS, *_BYTES], show_progress=False
    )
    learner.train_from_iterator(_texts(seed, scenes), trainer)
    learned = json.loads(learner.to_str())["model"]
    size = len(learned["vocab"])
    return LlamaTokenizer(
        vocab={**learned["vocab"], IMAGE: size, PAD: size + 1},
        merges=[tuple(pair) for pair in learned["merges"]],
        add_bos_token=True,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE},
        model_max_length=2048,
        padding_side="left",
    )


def _texts(seed: int, scenes: int) -> Iterator[str]:
    rng = np.random.default_rng(seed)
    for _ in range(_PROMPT_REPEATS):
        for prompt in STYLES:
            yield chat(prompt).replace(IMAGE, "")
    for category in CATEGORIES.values():
        yield f"{chat(question(category.phrase)).replace(IMAGE, '')} Yes. No."
    for _ in range(scenes):
        scene = sample_scene(rng)
        yield from references(scene, rng)
        for style in ("long", "brief", "listing"):
            yield describe(scene, rng, style)
