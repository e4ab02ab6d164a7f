"""Captions a second beside transformers' `generate`: same weights, same images, greedy, both in turn.

    python -m benchmarks.generate [--batches 1 16] [--new 200] [--rounds 3]

A LLaVA with the published sequence lengths (336 px, 576 image tokens, 32k words) at a width that a CPU can
run (`benchmarks.shapes`), random weights, float32. A run goes from pixels to the last token: image tower,
prefill, `--new` tokens for each row (200 is the configured limit of a caption); no row ends early, since
there is no end token. Both programs use all cores that this process may. Beside the whole run stands one of
a single token, so that prompt and decoding can be told apart. Figures are the best of the rounds; compiling
is not in them and is printed by itself.

Goal: at batch 16, at least 3 times as many tokens a second.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from benchmarks.shapes import IMAGE, IMAGE_TOKEN, PROMPT, SYSTEM, TEXT, VISION
from sare_jax.inference.features import encode_images
from sare_jax.inference.generate import generate
from sare_jax.inference.sharing import LENGTH_STEP
from sare_jax.models.interface import LoadedModel
from sare_jax.models.load import load_model

GOAL = 3.0
NO_TOKEN = -1  # an end that never comes
PAD = 0

Run = Callable[[int], np.ndarray]


@dataclass
class Inputs:
    """Prompts of one length, int64[B, T], and float32[B, H, W, 3] pictures."""

    ids: np.ndarray
    pixels: np.ndarray


@dataclass
class Timed:
    """Seconds of a program: whole runs, and runs of one token."""

    whole: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return min(self.whole)

    @property
    def prompt_seconds(self) -> float:
        return min(self.first)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--new", type=int, default=200, help="tokens a row")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)

    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    theirs = _model()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = load_model(Path(folder), dtype=jnp.float32)
    print(f"{jax.default_backend()}; threads: torch {torch.get_num_threads()}, XLA {cores}", flush=True)
    for batch in options.batches:
        _compare(theirs, ours, _inputs(batch), options.new, options.rounds)


def _compare(
    theirs: LlavaForConditionalGeneration, ours: LoadedModel, inputs: Inputs, new: int, rounds: int
) -> None:
    """Runs both in turn and prints what came of it."""
    batch = len(inputs.ids)
    start = time.perf_counter()
    compiled = _compiled(ours, inputs, (new, 1))
    compiling = time.perf_counter() - start
    programs: dict[str, Run] = {
        "transformers": lambda count: _transformers(theirs, inputs, count),
        "sare_jax": lambda count: _sare(ours, inputs, compiled[count]),
    }
    times = {name: Timed() for name in programs}
    for run in programs.values():  # memory is allocated and threads are started
        run(1)
    for _ in range(rounds):
        said = {}
        for name, run in programs.items():
            for count, kept in ((1, times[name].first), (new, times[name].whole)):
                start = time.perf_counter()
                said[name] = run(count)
                kept.append(time.perf_counter() - start)
    equal = int((said["transformers"] == said["sare_jax"]).all(axis=1).sum())

    print(f"batch {batch}, {inputs.ids.shape[1]} prompt tokens, {new} new; compiled in {compiling:.1f} s")
    for name, timed in times.items():
        decoding = timed.seconds - timed.prompt_seconds
        print(
            f"  {name:12s} {batch * new / timed.seconds:7.1f} tokens/s: prompt {timed.prompt_seconds:.2f} s, "
            f"then {1e3 * decoding / max(new - 1, 1):.1f} ms a step"
        )
    ratio = times["transformers"].seconds / times["sare_jax"].seconds
    goal = f" (goal at batch 16: {GOAL:.0f})" if batch == 16 else ""
    print(f"  ratio {ratio:.2f}{goal}; same ids in {equal} of {batch} rows", flush=True)


def _model() -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig(**TEXT),
        image_token_id=IMAGE_TOKEN,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config).eval()
    model.generation_config.eos_token_id = None
    return model


def _inputs(batch: int) -> Inputs:
    rng = np.random.default_rng(batch)
    before, after = (rng.integers(3, 31000, (batch, count)) for count in (SYSTEM, PROMPT))
    ids = np.concatenate([before, np.full((batch, IMAGE), IMAGE_TOKEN), after], axis=1)
    side = VISION["image_size"]
    return Inputs(ids, rng.normal(size=(batch, side, side, 3)).astype(np.float32))


def _transformers(model: LlavaForConditionalGeneration, inputs: Inputs, new: int) -> np.ndarray:
    ids = torch.from_numpy(inputs.ids)
    pixels = torch.from_numpy(inputs.pixels).permute(0, 3, 1, 2).contiguous()
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=pixels,
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=PAD,
        )
    return out[:, ids.shape[1] :].numpy()


def _compiled(
    loaded: LoadedModel, inputs: Inputs, counts: tuple[int, ...]
) -> dict[int, tuple[Callable, Callable]]:
    """For each number of tokens, image tower and generation, compiled."""
    lowered = encode_images.lower(loaded.graphdef, loaded.params, loaded.frozen, inputs.pixels)
    encode, features = lowered.compile(), lowered.out_info
    tokens, lengths = _padded(inputs)
    return {
        count: (
            encode,
            generate.lower(
                loaded.graphdef,
                loaded.params,
                loaded.frozen,
                tokens,
                lengths,
                features,
                max_new_tokens=count,
                end_ids=(NO_TOKEN,),
                pad_id=PAD,
            ).compile(),
        )
        for count in counts
    }


def _sare(loaded: LoadedModel, inputs: Inputs, compiled: tuple[Callable, Callable]) -> np.ndarray:
    encode, write = compiled
    features = encode(loaded.params, loaded.frozen, inputs.pixels)
    return np.asarray(write(loaded.params, loaded.frozen, *_padded(inputs), features).ids)


def _padded(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Prompts padded as `ask` pads them, and their lengths."""
    batch, length = inputs.ids.shape
    tokens = np.pad(inputs.ids, ((0, 0), (0, -length % LENGTH_STEP)), constant_values=PAD)
    return tokens.astype(np.int32), np.full(batch, length, np.int32)


if __name__ == "__main__":
    main()
