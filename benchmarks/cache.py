"""How far keys and values in a small format (`decoding.cache`) move logits and greedy captions.

    python -m benchmarks.cache [--images 64] [--batch 16] [--dtype bfloat16] [--model FOLDER]

The embedded model captions validation images of the embedded world, greedily, its keys and values in the
weights' format; then it reads these captions again, token by token behind its prompts, with each format.
Printed are, for each small format beside the weights',

- the logits' error: root mean square of the difference over that of the other's logits, both less their
  mean over the vocabulary, in per cent;
- the share of equal greedy tokens behind the same tokens;
- of captions that each writes by itself, the share that is equal to the letter, and the mean share of tokens
  before the first difference.
"""

import argparse
import functools
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.agreement import equal_texts
from sare_jax.demo.prompts import EVALUATION_PROMPT
from sare_jax.demo.train_llava import WEIGHTS
from sare_jax.demo.world import build
from sare_jax.inference.ask import ask
from sare_jax.inference.features import FeatureCache
from sare_jax.models.interface import LoadedModel, merge
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import load_model
from sare_jax.settings import DecodingConfig
from sare_jax.settings.decoding import CacheFormat

NEW = 128
PLAIN: CacheFormat = "as_weights"
FORMATS: tuple[CacheFormat, ...] = (PLAIN, "int8", "fp8")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    options = parser.parse_args(argv)
    source = open_llava(options.model)
    loaded = load_model(source, dtype=jnp.dtype(options.dtype))
    processor = LlavaImageProcessor.from_source(source, "auto")
    prompter = LlavaPrompter.from_source(source, "hub")
    with tempfile.TemporaryDirectory() as folder:
        world = Path(folder)
        build(world, train=0, val=options.images, test=0)
        names = sorted(path.name for path in (world / "images").iterdir())
        features = FeatureCache(loaded, processor, world / "images")
        captions = {
            cache: [
                record["text"]
                for record in ask(
                    loaded,
                    loaded.params,
                    [{"image": name, "instruction": EVALUATION_PROMPT} for name in names],
                    images_dir=world / "images",
                    out=world / f"{cache}.jsonl",
                    processor=processor,
                    prompter=prompter,
                    max_new_tokens=NEW,
                    batch_size=options.batch,
                    name=cache,
                    features=features,
                    decoding=DecodingConfig(cache=cache),
                )
            ]
            for cache in FORMATS
        }
        pictures = features(names)
        slots = processor.num_image_tokens(world / "images" / names[0])
    prompt = prompter.prompt(EVALUATION_PROMPT, slots)
    said = [prompter.tokenizer.encode(text, add_special_tokens=False).ids for text in captions[PLAIN]]
    whole = sum(len(ids) - 1 for ids in said)
    print(f"{jax.default_backend()}, {options.dtype}: {options.images} validation images, {whole} tokens")
    sums = dict.fromkeys(FORMATS[1:], np.zeros(3))
    for first in range(0, len(said), options.batch):
        some = slice(first, first + options.batch)
        found = {cache: reread(loaded, prompt, said[some], pictures[some], cache) for cache in FORMATS}
        for cache in sums:
            sums[cache] = sums[cache] + compared(found[cache], found[PLAIN])
    for cache, (error, size, equal) in sums.items():
        alone = equal_texts(captions[cache], captions[PLAIN], prompter.tokenizer)
        print(
            f"{cache}: logits' error {100 * (error / size) ** 0.5:.2f} %; equal greedy tokens "
            f"{100 * equal / whole:.2f} %; each by itself {alone}"
        )


def reread(
    loaded: LoadedModel, prompt: list[int], said: list[list[int]], features: np.ndarray, cache: CacheFormat
) -> np.ndarray:
    """float32[n, V], logits behind every token of each caption but its last."""
    width = max(map(len, said)) - 1
    tokens = np.zeros((len(said), width), np.int32)
    for row, ids in enumerate(said):
        tokens[row, : len(ids) - 1] = ids[:-1]
    prompts = np.tile(np.array(prompt, np.int32), (len(said), 1))
    logits = np.asarray(
        _read(loaded.graphdef, cache, loaded.params, loaded.frozen, prompts, tokens, features)
    )
    return np.concatenate([logits[row, : len(ids) - 1] for row, ids in enumerate(said)])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _read(
    graphdef: Any,
    cache: CacheFormat,
    params: Any,
    frozen: Any,
    prompts: jax.Array,
    tokens: jax.Array,
    features: jax.Array,
) -> jax.Array:
    model = merge(graphdef, params, frozen)
    rows, width = prompts.shape
    _, kept = model.prefill(prompts, features, jnp.full(rows, width), 1, tokens.shape[1], cache)
    parts = model.parts()

    def step(kept: Any, token: jax.Array) -> tuple[Any, jax.Array]:
        positions = jnp.broadcast_to(width + kept.step, (rows, 1))
        logits, kept = model.decode(token[:, None], positions, kept, parts)
        return kept, logits[:, 0]

    return jax.lax.scan(step, kept, tokens.T)[1].swapaxes(0, 1)


def compared(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Squared error, squared size and number of equal greedy tokens, summed over n tokens."""
    a, b = (x - x.mean(-1, keepdims=True) for x in (found, wanted))
    squares = [np.square(x, dtype=np.float64).mean(-1).sum() for x in (a - b, b)]
    return np.array([*squares, (found.argmax(-1) == wanted.argmax(-1)).sum()])


if __name__ == "__main__":
    main()
