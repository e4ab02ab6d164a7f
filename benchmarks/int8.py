"""How far int8 kernels (`model.quantization`) move logits, greedy answers and gradients, beside bfloat16.

    python -m benchmarks.int8 [--images 64] [--batch 8] [--model FOLDER] [--random 0]
    SARE_SHAPE=1b python -m benchmarks.int8 --images 0 --random 4

The embedded model reads its own greedy captions (float32) of the first validation images of the embedded
world; `--random` adds so many rows of random tokens and features under random weights of the shape that
`SARE_SHAPE` names. Three pairs are held side by side: bfloat16 and float32, as a yardstick, and int8 beside
each of the two. Of every pair are printed

- the logits' error: root mean square of the difference over that of the second one's logits, both less their
  mean over the vocabulary, in per cent; and KL(second ‖ first) in nats a token;
- the share of equal greedy tokens behind the same tokens; and of captions that each writes by itself, the
  mean share of tokens before the first difference, and of captions equal to the letter;
- the cosine between the projector's gradients, and the least one of a single batch: of −log P a token of
  whole captions, as of D_sent, and of 14 tokens of their middle, as of a sub-sentence.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import step
from benchmarks.agreement import equal_texts
from sare_jax.demo.prompts import EVALUATION_PROMPT
from sare_jax.demo.train_llava import WEIGHTS
from sare_jax.demo.world import build
from sare_jax.inference.ask import ask
from sare_jax.inference.features import FeatureCache
from sare_jax.models.llava.images import LlavaImageProcessor
from sare_jax.models.llava.prompts import LlavaPrompter
from sare_jax.models.llava.source import open_llava
from sare_jax.models.load import load_model
from sare_jax.models.shared.partition import flatten, unflatten
from sare_jax.models.shared.quantization import KERNEL, quantize, scale_path
from sare_jax.training.rows import log_probs_of

NEW, MIDDLE = 128, 14
PAIRS = (("bfloat16", "float32"), ("float32, int8", "float32"), ("bfloat16, int8", "bfloat16"))
FORMS = tuple(dict.fromkeys(form for pair in PAIRS for form in reversed(pair)))


@dataclass(frozen=True)
class Rows:
    """Rows of one length.

    Attributes:
      tokens: int32[B, T].
      features: float32[B, P, D_v].
      start: int32[B], the first token of the answer.
      end: int32[B], behind its last token.
    """

    tokens: np.ndarray
    features: np.ndarray
    start: np.ndarray
    end: np.ndarray


@dataclass
class Sums:
    """What is added up of a pair over all batches."""

    error: float = 0.0
    size: float = 0.0
    divergence: float = 0.0
    equal: float = 0.0
    tokens: float = 0.0
    gradients: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--random", type=int, default=0)
    options = parser.parse_args(argv)
    if options.images:
        with tempfile.TemporaryDirectory() as folder:
            captions, merges, batches = _embedded(options, Path(folder))
        print(f"{jax.default_backend()}: {options.images} validation images, {options.model.name}")
        found = measure(merges, batches)
        tokenizer = LlavaPrompter.from_source(open_llava(options.model), "hub").tokenizer
        for pair in PAIRS:
            alone = equal_texts(*(captions[form] for form in pair), tokenizer)
            print(f"{told(pair, found[pair])}\n    each by itself: {alone}")
    if options.random:
        models, batches = _random(options)
        width, layers = step.TEXT["hidden_size"], step.TEXT["num_hidden_layers"]
        print(f"{jax.default_backend()}: {options.random} random rows, width {width}, {layers} layers")
        for pair, sums in measure(models, batches).items():
            print(told(pair, sums))


def measure(models: dict[str, tuple[Any, Any, Any]], batches: list[Rows]) -> dict[tuple[str, str], Sums]:
    """Every pair's sums over the batches.

    Args:
      models: form → function of (params, frozen) that gives a model, trained weights, and the others.
      batches: rows to read.
    """
    sums = {pair: Sums() for pair in PAIRS}
    runs = {form: (_logits(merge), _gradient(merge), *trees) for form, (merge, *trees) in models.items()}
    for rows in batches:
        logits, gradients = {}, {}
        for form, (read, gradient, params, frozen) in runs.items():
            logits[form] = np.concatenate([np.asarray(each) for each in _answers(read, params, frozen, rows)])
            gradients[form] = {
                name: _flat(gradient(params, frozen, rows.tokens, rows.features, *span))
                for name, span in _spans(rows).items()
            }
        for pair, total in sums.items():
            _add(total, *(logits[form] for form in pair))
            for name in gradients[pair[0]]:
                total.gradients.setdefault(name, []).append(
                    (gradients[pair[0]][name], gradients[pair[1]][name])
                )
    return sums


def told(pair: tuple[str, str], sums: Sums) -> str:
    """A pair's figures, for people."""
    error, divergence = (sums.error / sums.size) ** 0.5, sums.divergence / sums.tokens
    lines = [
        f"{pair[0]} beside {pair[1]}, {sums.tokens:.0f} tokens:",
        f"    logits' error {100 * error:.2f} %, KL {divergence:.1e} nats; equal greedy tokens "
        f"{100 * sums.equal / sums.tokens:.2f} %",
    ]
    for name, each in sums.gradients.items():
        whole = _cosine(*(np.sum(side, axis=0) for side in zip(*each, strict=True)))
        least = min(_cosine(*both) for both in each)
        lines.append(f"    gradient of {name}: cosine {whole:.6f}, least of {len(each)} batches {least:.6f}")
    return "\n".join(lines)


def _add(sums: Sums, found: np.ndarray, wanted: np.ndarray) -> None:
    a, b = (x - x.mean(-1, keepdims=True) for x in (found, wanted))
    first, second = (np.asarray(jax.nn.log_softmax(x), np.float64) for x in (found, wanted))
    sums.error += float(np.square(a - b, dtype=np.float64).mean(-1).sum())
    sums.size += float(np.square(b, dtype=np.float64).mean(-1).sum())
    sums.divergence += float((np.exp(second) * (second - first)).sum())
    sums.equal += float((found.argmax(-1) == wanted.argmax(-1)).sum())
    sums.tokens += len(found)


def _logits(merge: Callable[..., Any]) -> Callable[..., jax.Array]:
    @jax.jit
    def read(params: Any, frozen: Any, tokens: jax.Array, features: jax.Array, positions: jax.Array) -> Any:
        model = merge(params, frozen)
        return model.logits(model.read(tokens, model.project(features), positions=positions))

    return read


def _gradient(merge: Callable[..., Any]) -> Callable[..., Any]:
    @jax.jit
    @jax.grad
    def gradient(
        params: Any, frozen: Any, tokens: jax.Array, features: jax.Array, start: jax.Array, end: jax.Array
    ) -> jax.Array:
        model = merge(params, frozen)
        places = jnp.broadcast_to(jnp.arange(1, tokens.shape[1]), (len(tokens), tokens.shape[1] - 1))
        states = model.read(tokens, model.project(features), positions=places - 1)
        mask = (places >= start[:, None]) & (places < end[:, None])
        log_p = log_probs_of(model.logits(states), tokens[:, 1:]) * mask
        return -jnp.mean(log_p.sum(1) / mask.sum(1))

    return gradient


def _answers(read: Callable[..., jax.Array], params: Any, frozen: Any, rows: Rows) -> Iterator[np.ndarray]:
    """Logits of each row's answer, float32[n, V]."""
    width = int((rows.end - rows.start).max())
    positions = np.minimum(rows.start[:, None] - 1 + np.arange(width), rows.tokens.shape[1] - 1)
    logits = read(params, frozen, rows.tokens, rows.features, positions.astype(np.int32))
    for row, count in enumerate(rows.end - rows.start):
        yield np.asarray(logits[row, :count])


def _spans(rows: Rows) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    middle = np.maximum((rows.start + rows.end - MIDDLE) // 2, rows.start)
    return {
        "whole captions": (rows.start, rows.end),
        f"{MIDDLE} tokens": (middle, np.minimum(middle + MIDDLE, rows.end)),
    }


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(tree)])


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def _embedded(
    options: argparse.Namespace, world: Path
) -> tuple[dict[str, list[str]], dict[str, tuple[Any, Any, Any]], list[Rows]]:
    """Captions by form, models by form, and the first form's captions as rows."""
    build(world, train=0, val=options.images, test=0)
    source = open_llava(options.model)
    processor = LlavaImageProcessor.from_source(source, "auto")
    prompter = LlavaPrompter.from_source(source, "hub")
    names = sorted(path.name for path in (world / "images").iterdir())
    captions: dict[str, list[str]] = {}
    models = {}
    for form in FORMS:
        dtype, _, kind = form.partition(", ")
        loaded = load_model(source, dtype=jnp.dtype(dtype), quantization=kind or "none")
        models[form] = loaded.merge, loaded.params, loaded.frozen
        features = FeatureCache(loaded, processor, world / "images")
        records = ask(
            loaded,
            loaded.params,
            [{"image": name, "instruction": EVALUATION_PROMPT} for name in names],
            images_dir=world / "images",
            out=world / f"{form}.jsonl",
            processor=processor,
            prompter=prompter,
            max_new_tokens=NEW,
            batch_size=options.batch,
            name=form,
            features=features,
        )
        captions[form] = [record["text"] for record in records]
        if form == FORMS[0]:
            pictures = features(names)
    whole = []
    for text in captions[FORMS[0]]:
        ids, ((start, end),) = prompter.answer(
            EVALUATION_PROMPT,
            text,
            [(0, len(text))],
            eos=False,
            num_image_tokens=processor.num_image_tokens(world / "images" / names[0]),
        )
        whole.append((ids, start, end))
    width = max(len(ids) for ids, _, _ in whole)
    tokens = np.full((len(whole), width), prompter.pad_id, np.int32)
    for row, (ids, _, _) in enumerate(whole):
        tokens[row, : len(ids)] = ids
    edges = np.array([edges for _, *edges in whole], np.int32)
    parts = [slice(at, at + options.batch) for at in range(0, len(whole), options.batch)]
    batches = [Rows(tokens[each], np.asarray(pictures[each], np.float32), *edges[each].T) for each in parts]
    return captions, models, batches


def _random(options: argparse.Namespace) -> tuple[dict[str, tuple[Any, Any, Any]], list[Rows]]:
    models = {}
    for form in FORMS:
        dtype, _, kind = form.partition(", ")
        drawn = step.Model(jnp.dtype(dtype))
        frozen = as_int8(step.Model(jnp.float32).frozen, drawn.frozen) if kind else drawn.frozen
        models[form] = drawn.merge, drawn.params, frozen
    rng, sizes = np.random.default_rng(0), step.UNITS["sent"]
    context, length = step.SYSTEM + step.IMAGE + step.PROMPT, sizes[1]
    tokens = rng.integers(3, step.IMAGE_TOKEN, (options.random, context + length)).astype(np.int32)
    tokens[:, step.SYSTEM : step.SYSTEM + step.IMAGE] = step.IMAGE_TOKEN
    features = np.asarray(step.Model(jnp.float32).features(options.random))
    edges = [np.full(options.random, edge, np.int32) for edge in (context, context + length)]
    parts = [slice(at, at + options.batch) for at in range(0, options.random, options.batch)]
    return models, [Rows(tokens[each], features[each], edges[0][each], edges[1][each]) for each in parts]


def as_int8(exact: Any, frozen: Any) -> Any:
    """`frozen` with the kernels of the language model's layers quantised from those of `exact`."""
    made = flatten(frozen)
    for path, kernel in flatten(exact).items():
        if path.startswith("language_model/layers/") and path.endswith(KERNEL):
            made[path], made[scale_path(path)] = jax.lax.map(quantize, kernel)
    return unflatten(made)


if __name__ == "__main__":
    main()
