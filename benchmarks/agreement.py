"""How far greedy captions in bfloat16 agree: between batch sizes, and with those in float32.

    python -m benchmarks.agreement [--images 64] [--batches 1 16 64] [--model FOLDER]

The embedded model describes images of the embedded world. A product of another shape may round otherwise, and
a caption goes its own way from the first token whose two likeliest candidates lie closer than that. Printed
are the share of captions that are equal to the letter, and the mean share of a caption's tokens before the
first difference, each beside the first batch size in float32.
"""

import argparse
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
from tokenizers import Tokenizer

from sare_jax.demo.prompts import EVALUATION_PROMPT
from sare_jax.demo.train_llava import WEIGHTS
from sare_jax.demo.world import build
from sare_jax.inference.ask import ask
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import load_model

NEW = 128


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        captions = _captions(options, Path(folder))
    tokenizer = LlavaPrompter.from_source(open_llava(options.model), "hub").tokenizer
    print(f"{jax.default_backend()}, {options.images} captions of at most {NEW} tokens")
    reference = captions["float32", options.batches[0]]
    for dtype in ("float32", "bfloat16"):
        first = captions[dtype, options.batches[0]]
        for batch in options.batches:
            here = captions[dtype, batch]
            beside, exact = (equal_texts(here, other, tokenizer) for other in (first, reference))
            print(f"{dtype:8s} batch {batch:3d}: as batch {options.batches[0]} {beside}; as float32 {exact}")


def _captions(options: argparse.Namespace, world: Path) -> dict[tuple[str, int], list[str]]:
    """Captions by dtype and batch size."""
    build(world, train=0, val=0, test=options.images)
    source = open_llava(options.model)
    names = sorted(path.name for path in (world / "images").iterdir())
    requests = [{"image": name, "instruction": EVALUATION_PROMPT} for name in names]
    made = {}
    for dtype in ("float32", "bfloat16"):
        loaded = load_model(source, dtype=jnp.dtype(dtype))
        for batch in options.batches:
            records = ask(
                loaded,
                loaded.params,
                requests,
                images_dir=world / "images",
                out=world / f"{dtype}_{batch}.jsonl",
                processor=LlavaImageProcessor.from_source(source, "auto"),
                prompter=LlavaPrompter.from_source(source, "hub"),
                max_new_tokens=NEW,
                batch_size=batch,
                name=f"{dtype}, batch {batch}",
            )
            made[dtype, batch] = [record["text"] for record in records]
    return made


def equal_texts(texts: list[str], others: list[str], tokenizer: Tokenizer) -> str:
    """Share of texts equal to the letter, and mean share of a text's tokens before the first difference."""
    equal = sum(map(str.__eq__, texts, others)) / len(texts)
    shares = []
    for pair in zip(texts, others, strict=True):
        one, other = (tokenizer.encode(text, add_special_tokens=False).ids for text in pair)
        same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
        longest = max(len(one), len(other), 1)
        shares.append((min(len(one), len(other)) if same is None else same) / longest)
    return f"{100 * equal:5.1f} % of captions, {100 * sum(shares) / len(shares):5.1f} % of tokens"


if __name__ == "__main__":
    main()
