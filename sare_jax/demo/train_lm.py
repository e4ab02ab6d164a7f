"""Trains the demo's language model: a small GPT-2 that knows how the world is written about.

It plays the part that GPT-2 plays in the paper: perplexity of a caption, to see whether unlearning has harmed
its language. It reads what the blind writer and the reference captions say of random scenes, now and then
with the prompt before it, as the lineage's perplexity is computed (protocols 1.11).

    python -m sare_jax.demo.train_lm

writes a Hugging Face folder (config, safetensors, byte-level BPE tokenizer) that `transformers` loads like
any GPT-2, and prints the perplexity of texts about scenes that it has never read about.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from sare_jax import files
from sare_jax.demo.prompts import STYLES
from sare_jax.demo.references import references
from sare_jax.demo.scenes import sample_scene
from sare_jax.demo.writer import describe
from sare_jax.evaluation.metrics import perplexity
from sare_jax.progress import track

OUT = Path(__file__).parent / "weights" / "lm"

_END = "<|endoftext|>"
_VOCABULARY = 768
_CONTEXT = 256
_PROMPTED = 0.15  # share of the descriptions that follow their prompt
_REFERENCES = 0.25  # share of the texts that are reference captions


def main() -> None:
    """Trains, writes and measures the model."""
    parser = argparse.ArgumentParser(description="Train the demo's language model.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # so small a model that a second thread mostly waits
    start = time.monotonic()
    train(options.out, steps=options.steps, seed=options.seed)
    size = sum(path.stat().st_size for path in options.out.iterdir()) / 1e6
    print(f"trained in {time.monotonic() - start:.0f} s; {size:.2f} MB in {options.out}")
    print(f"perplexity of held-out descriptions: {measure(options.out):.3f}")


def train(out: Path, *, steps: int, seed: int, batch_size: int = 32, vocabulary_texts: int = 3000) -> None:
    """Trains on texts about random scenes and writes a Hugging Face folder.

    Args:
      out: the Hugging Face folder to write; an older one is replaced once the new one is complete.
      steps: number of optimizer steps; every step reads new texts.
      seed: starts the draws of texts and of initial weights.
      batch_size: number of texts in a step.
      vocabulary_texts: number of texts that the tokenizer is learnt from.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    tokenizer = _train_tokenizer(_texts(rng, vocabulary_texts))
    end = tokenizer.eos_token_id
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=_CONTEXT,
        n_embd=80,
        n_layer=3,
        n_head=4,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for _ in track(range(steps), "language model", total=steps, unit="step"):
        tokens, labels = _batch(list(_texts(rng, batch_size)), tokenizer)
        loss = model(input_ids=tokens, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with files.replacing(out) as draft:
        draft.mkdir(parents=True)
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)


def measure(folder: Path, *, scenes: int = 300, seed: int = 12345) -> float:
    """Mean perplexity of long descriptions of scenes drawn with another seed than the training's."""
    rng = np.random.default_rng(seed)
    texts = [describe(sample_scene(rng), rng) for _ in range(scenes)]
    return perplexity.score(texts, folder)["mean"]


def _texts(rng: np.random.Generator, count: int) -> Iterator[str]:
    """Texts about random scenes: descriptions of every style, and reference captions."""
    prompts = list(STYLES)
    for _ in range(count):
        scene = sample_scene(rng)
        if rng.random() < _REFERENCES:
            yield references(scene, rng)[rng.integers(5)]
            continue
        prompt = prompts[rng.integers(len(prompts))]
        text = describe(scene, rng, STYLES[prompt])
        yield f"{prompt} {text}" if rng.random() < _PROMPTED else text


def _train_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """GPT-2's kind of tokenizer: BPE over bytes, one special token that starts and ends a text."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=[_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=learner, bos_token=_END, eos_token=_END, unk_token=_END, model_max_length=_CONTEXT
    )


def _batch(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and labels int64[B, T]: each text between two end tokens, filled up at the right."""
    end = tokenizer.eos_token_id
    rows = [[end, *ids, end][:_CONTEXT] for ids in tokenizer(list(texts))["input_ids"]]
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [end] * (longest - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
    return tokens, labels


if __name__ == "__main__":
    main()
