"""Captions a second, of ours or of transformers' `generate`, with random weights made on the device.

    SARE_SHAPE=7b python -m benchmarks.captions --who ours --batch 16 --new 100 --dtype bfloat16

One process each, since a card may not hold both models; no row ends early. Prints a line of JSON with the
seconds of the prompts with one token, and of the whole, the best of the rounds. `benchmarks.generate`
compares the tokens too.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from benchmarks.shapes import IMAGE, IMAGE_TOKEN, PROMPT, SYSTEM, TEXT, VISION


def ours(batch: int, dtype: str) -> Callable[[int], object]:
    """Runs our generation for so many tokens, from pixels to the last one."""
    import jax
    import jax.numpy as jnp

    from benchmarks.step import Model
    from sare_jax.inference.features import encode_images
    from sare_jax.inference.generate import generate

    model = Model(jnp.dtype(dtype))
    tokens = jnp.asarray(_tokens(batch), jnp.int32)
    lengths = jnp.full(batch, tokens.shape[1], jnp.int32)
    side = VISION["image_size"]
    pixels = jax.random.normal(jax.random.key(1), (batch, side, side, 3), model.dtype)

    def run(new: int) -> object:
        features = encode_images(model.graphdef, model.params, model.frozen, pixels)
        made = generate(
            model.graphdef,
            model.params,
            model.frozen,
            tokens,
            lengths,
            features,
            max_new_tokens=new,
            end_ids=(-1,),
            pad_id=0,
        )
        return np.asarray(made.ids)

    return run


def transformers(batch: int, dtype: str) -> Callable[[int], object]:
    """Runs transformers' `generate` for so many tokens."""
    import torch

    from benchmarks.torch_peer import Peer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Peer(device, getattr(torch, dtype), 1).model.eval()
    model.generation_config.eos_token_id = None
    ids = torch.from_numpy(_tokens(batch)).to(device)
    side = VISION["image_size"]
    pixels = torch.randn(batch, 3, side, side).to(device, getattr(torch, dtype))

    def run(new: int) -> object:
        with torch.inference_mode():
            made = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=pixels,
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=False,
                pad_token_id=0,
            )
        return made.cpu()

    return run


def _tokens(batch: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    before, after = (rng.integers(3, 31000, (batch, count)) for count in (SYSTEM, PROMPT))
    return np.concatenate([before, np.full((batch, IMAGE), IMAGE_TOKEN), after], axis=1)


def read_bytes(batch: int, new: int, itemsize: int) -> int:
    """Bytes of weights, keys and values that decoding cannot but read, with half of the new tokens a step."""
    width = TEXT["hidden_size"]
    layer = 4 * width**2 + 3 * width * TEXT["intermediate_size"]
    weights = TEXT["num_hidden_layers"] * layer + TEXT["vocab_size"] * width
    tokens = SYSTEM + IMAGE + PROMPT + new / 2
    return int((new - 1) * itemsize * (weights + batch * 2 * TEXT["num_hidden_layers"] * tokens * width))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.captions", description=__doc__)
    parser.add_argument("--who", choices=["ours", "transformers"], required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--new", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    args = parser.parse_args()
    run = {"ours": ours, "transformers": transformers}[args.who](args.batch, args.dtype)
    seconds = {}
    for count in (1, args.new):
        run(count)  # compiles
        seconds[count] = min(_timed(run, count) for _ in range(args.rounds))
    print(json.dumps({"prompt_s": seconds[1], "whole_s": seconds[args.new]}))


def _timed(run: Callable[[int], object], count: int) -> float:
    start = time.perf_counter()
    run(count)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
