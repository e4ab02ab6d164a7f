"""Speed of a training step beside PyTorch's with transformers, both in turn, on whatever device is there.

    python -m benchmarks.step [--rounds 5] [--batch 1] [--captions 4] [--objects 8] [--dtype float32]

*Unpacked*: one negative, positive and sentence a row, as the peer (`benchmarks.torch_peer`) runs them.
*Packed*: `--captions` rows of one caption each, with `--objects` sub-sentences, a third of them negative,
and the whole caption; a step also encodes its images once, since an epoch takes each caption once. Unpacked
rows find their images in the cache: an image has many units.

A *unit* is one loss term of one sample. *Share of peak* counts 4 N floating-point operations a token that is
run forward and backward (N: the weights of all layers of the language model, and of the head for targets
alone), without padding and attention, against the largest matrix product of the same run. Ours computes less
than that where it can: the system sentence once for all rows, the last layer on targets alone.
`sare/10` finds ε* in every tenth step and keeps its effect in between.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.shapes import IMAGE, IMAGE_TOKEN, PROMPT, SYSTEM, TEXT, UNITS, VISION
from sare_jax import files
from sare_jax.data.batches import (
    SETS,
    TokenSet,
    TokenSets,
    bucket_lengths,
    common_prefix,
    unlearn_batches,
)
from sare_jax.data.packing import pack, packed_batches
from sare_jax.models.interface import merge
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.modeling import Llava
from sare_jax.models.shared import partition
from sare_jax.models.shared.config import TextConfig, VisionConfig
from sare_jax.models.shared.target import here
from sare_jax.objectives.ascent import ascent
from sare_jax.optim import AdamW, Perturbation
from sare_jax.rounding import round_up
from sare_jax.training.gradients import projected
from sare_jax.training.remat import remat_policy
from sare_jax.training.sharding import compile_step, make_mesh
from sare_jax.training.state import Hyper, as_arrays, efuf_optimizer, init_state, unlearn_optimizer
from sare_jax.training.static import Static
from sare_jax.training.step import efuf_step, unlearn_step

HYPER = Hyper(rho=0.05, neg_weight=0.3, sent_weight=0.2, adamw=AdamW())
REFRESH = 10  # steps from one ε* to the next, where it is not found in each; its effect is kept in between
CAPTION = UNITS["sent"][1]
NEGATIVE = 1 / 3  # share of the objects


@dataclass
class Case:
    """A compiled step on its batch.

    Attributes:
      run: takes one step and waits for it.
      units: loss terms in it.
      flops: 4 N a token, see above.
      compile_s: seconds of compiling.
      peak: bytes of arguments and temporaries.
      seconds: measured, one a round.
    """

    run: Callable[[], None]
    units: int
    flops: float
    compile_s: float
    peak: int
    seconds: list[float]

    @property
    def unit_s(self) -> float:
        """Seconds a unit, the median over the rounds."""
        return statistics.median(self.seconds) / self.units


class Model:
    """Random weights, the projector in float32 and the rest in `dtype`."""

    def __init__(self, dtype: Any):
        vision = VisionConfig(
            VISION["hidden_size"],
            VISION["intermediate_size"],
            VISION["num_hidden_layers"],
            VISION["num_attention_heads"],
            3,
            VISION["image_size"],
            VISION["patch_size"],
            "quick_gelu",
            1e-5,
        )
        heads = TEXT["num_attention_heads"]
        text = TextConfig(
            TEXT["vocab_size"],
            TEXT["hidden_size"],
            TEXT["intermediate_size"],
            TEXT["num_hidden_layers"],
            heads,
            TEXT["num_key_value_heads"],
            TEXT["hidden_size"] // heads,
            10000.0,
            1e-6,
            False,
        )
        self.config = LlavaConfig(vision, text, IMAGE_TOKEN, -2, False)
        self.graphdef, _ = nnx.split(nnx.eval_shape(self._made))
        flat = _drawn(self._made, dtype)
        tuned = {path: leaf for path, leaf in flat.items() if path.startswith("projector/")}
        self.params = partition.unflatten(tuned)
        frozen = {path: leaf for path, leaf in flat.items() if path not in tuned}
        self.frozen = partition.unflatten(frozen)
        self.layers = sum(
            leaf.size for path, leaf in flat.items() if "language_model/layers" in path and leaf.ndim == 3
        )
        self.head = flat["head/kernel"].size
        self.dtype = dtype

    def _made(self) -> Llava:
        return Llava(self.config, here(), rngs=nnx.Rngs(0))

    def merge(self, params: Any, frozen: Any) -> Llava:
        """As `LoadedModel.merge`."""
        return merge(self.graphdef, params, frozen)

    def features(self, rows: int) -> jax.Array:
        """Features of as many images, as a cache would have them."""
        return jax.random.normal(jax.random.key(0), (rows, IMAGE, VISION["hidden_size"]), self.dtype)

    def flops(self, tokens: float, targets: float, passes: float = 2) -> float:
        """Operations of so many forward (1) and backward (1) passes, 2 a weight."""
        return 2 * passes * (self.layers * tokens + self.head * targets)


def _drawn(make: Callable[[], Any], dtype: Any) -> dict[str, jax.Array]:
    """Random weights by path; in one program, so that those in float32 are not all held at a time."""

    def draw() -> dict[str, jax.Array]:
        flat = partition.flatten(nnx.to_pure_dict(nnx.split(make())[1]))
        return {
            path: leaf if path.startswith("projector/") else leaf.astype(dtype) for path, leaf in flat.items()
        }

    return jax.jit(draw)()


def units(batch: int) -> TokenSets:
    """The peer's samples: rows of one unit."""
    rng = np.random.default_rng(0)
    opening = _opening(rng)
    found: dict[str, list] = {kind: [] for kind in SETS}
    for kind, (context, target) in UNITS.items():
        for row in range(batch):
            tokens = np.concatenate([opening, _words(rng, context + target)])
            found[kind].append((tokens, len(tokens) - target, row))
    return _sets(found)


def captions(count: int, objects: int) -> TokenSets:
    """Captions with their objects' sub-sentences spread over them, each negative by chance."""
    rng = np.random.default_rng(0)
    opening = _opening(rng)
    found: dict[str, list] = {kind: [] for kind in SETS}
    size = UNITS["neg"][1]
    for row in range(count):
        tokens = np.concatenate([opening, _words(rng, CAPTION)])
        found["sent"].append((tokens, len(opening), row))
        for start in np.linspace(0, CAPTION - size, objects).astype(int):
            kind = "neg" if rng.random() < NEGATIVE else "pos"
            found[kind].append((tokens[: len(opening) + start + size], len(opening) + start, row))
    return _sets(found)


def _opening(rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([_words(rng, SYSTEM), np.full(IMAGE, IMAGE_TOKEN), _words(rng, PROMPT)])


def _words(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(3, 31000, count)


def _sets(found: dict[str, list]) -> TokenSets:
    def one(rows: list) -> TokenSet:
        widest = max(len(tokens) - start for tokens, start, _ in rows)
        return TokenSet(
            tokens=[tokens.astype(np.int32) for tokens, *_ in rows],
            start=np.array([start for _, start, _ in rows], np.int32),
            image=np.array([str(row) for *_, row in rows]),
            caption=np.array([row for *_, row in rows], np.int32),
            unit=np.arange(len(rows), dtype=np.int32),
            lengths=bucket_lengths([len(tokens) for tokens, *_ in rows], 8),
            window=round_up(widest, 8),
            pad_id=0,
        )

    return TokenSets(**{kind: one(found[kind]) for kind in SETS}, lost={})


class Work:
    """A batch on the device and what its steps cost."""

    def __init__(self, model: Model, sets: TokenSets, batch: dict, pixels: jax.Array | None):
        self.model, self.pixels = model, pixels
        self.prefix = common_prefix(sets, IMAGE_TOKEN)
        self.names = [name for name in batch if name != "second"]
        rows = {name: len(batch[name]["image"]) for name in self.names}
        self.negative = rows["neg"] / sum(rows.values())
        self.units = sum(len(getattr(sets, kind)) for kind in SETS)
        sizes = {name: _size(part) for name, part in batch.items()}
        both = "second" in batch
        again = sizes["second"] if both else sizes["neg"]
        self.efuf_flops = sum(model.flops(*sizes[name]) for name in self.names)
        self.back_flops = model.flops(*sizes["neg"], passes=1) if both else 0.0
        self.again_flops = model.flops(*again)
        self.batch = jax.device_put(
            {name: {k: v for k, v in part.items() if k != "image"} for name, part in batch.items()}
        )
        self.rows = rows

    def case(self, method: str, refresh: int = 1) -> Case:
        """A compiled step of `efuf` or `sare`; a round of it is `refresh` steps."""
        model, mesh = self.model, make_mesh(1)
        static = Static(
            model.merge,
            ascent(),
            projected.gradients,
            Perturbation(refresh_every=refresh, between="kept"),
            prefix=self.prefix,
            remat_policy=remat_policy("dots", mesh),
        )
        if method == "efuf":
            step, optimizer = compile_step(efuf_step, mesh, static), efuf_optimizer(HYPER)
        else:
            step = compile_step(unlearn_step, mesh, static)
            optimizer = unlearn_optimizer(HYPER, static.perturbation)
        encode = jax.jit(lambda frozen, pixels: model.merge(model.params, frozen).encode_images(pixels))
        cached = model.features(sum(self.rows.values()))

        def attached() -> dict:
            seen = cached if self.pixels is None else encode(model.frozen, self.pixels)
            batch, first = dict(self.batch), 0
            for name, count in self.rows.items():
                batch[name] = batch[name] | {"features": seen[first : first + count]}
                first += count
            return batch

        state = [init_state(model.params, optimizer, seed=0)]
        hyper = as_arrays(HYPER)
        start = time.perf_counter()
        program = step.lower(state[0], model.frozen, attached(), hyper).compile()
        compile_s = time.perf_counter() - start
        memory = program.memory_analysis()

        def run() -> None:
            for _ in range(refresh):
                state[0], metrics = program(state[0], model.frozen, attached(), hyper)
            jax.block_until_ready(metrics)

        run()
        extra = 0.0 if method == "efuf" else (self.back_flops + self.again_flops) / refresh
        peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes
        return Case(run, self.units * refresh, (self.efuf_flops + extra) * refresh, compile_s, peak, [])


def _size(part: dict) -> tuple[int, int]:
    """Tokens of a group of rows up to their last targets, and targets."""
    if "units" not in part:
        return int(part["end"].sum()), int((part["end"] - part["start"]).sum())
    ends = np.max([columns["end"].max(1) for columns in part["units"].values()], axis=0)
    positions = np.take_along_axis(part["positions"], np.maximum(ends - 1, 0)[:, None], 1)[:, 0]
    return int(np.where(ends > 0, positions + 2, 0).sum()), int(ends.sum())


class PeerProcess:
    """`benchmarks.torch_peer` in a process of its own, so that the two do not share threads or memory."""

    def __init__(self, device: str, dtype: str, batch: int):
        arguments = ["--device", device, "--dtype", dtype, "--batch", str(batch)]
        command = [sys.executable, "-m", "benchmarks.torch_peer", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for method in ("efuf", "sare"):
            self.step(method)

    def step(self, method: str) -> float:
        """Seconds of one step."""
        self._process.stdin.write(f"{method}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())["seconds"]

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()


def matmul_peak(dtype: Any) -> Callable[[], float]:
    """A measurement of floating-point operations a second in one large product."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    a = jax.random.normal(jax.random.key(0), (size, size), dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))

    def measure() -> float:
        start = time.perf_counter()
        jax.block_until_ready([product(a, a) for _ in range(4)])
        return 4 * 2 * size**3 / (time.perf_counter() - start)

    return measure


def main() -> None:
    args = _parser().parse_args()
    model = Model(jnp.dtype(args.dtype))
    unpacked, packed = units(args.batch), captions(args.captions, args.objects)
    rows = pack(packed)
    pixels = jax.random.normal(jax.random.key(1), (len(rows), *[VISION["image_size"]] * 2, 3), model.dtype)
    single = {"batch_size": args.batch, "steps": 1, "seed": 0}
    together = {"batch_size": len(rows), "steps": 1, "seed": 0, "pad_id": 0}
    works = {
        "unpacked": Work(model, unpacked, next(iter(unlearn_batches(unpacked, **single))), None),
        "packed": Work(model, packed, next(iter(packed_batches(rows, **together))), pixels),
    }
    methods = {"efuf": ("efuf", 1), "sare": ("sare", 1), f"sare/{REFRESH}": ("sare", REFRESH)}
    cases = {
        (form, label): work.case(*method) for form, work in works.items() for label, method in methods.items()
    }
    peak, peaks = matmul_peak(model.dtype), []
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    peer = None if args.alone else PeerProcess(device, args.dtype, args.batch)
    theirs: dict[str, list[float]] = {"efuf": [], "sare": []}
    for _ in range(args.rounds):
        for method in theirs if peer else ():
            theirs[method].append(peer.step(method) / 3 / args.batch)
        peaks.append(peak())
        for case in cases.values():
            start = time.perf_counter()
            case.run()
            case.seconds.append(time.perf_counter() - start)
    if peer:
        peer.close()
    _report(works, cases, max(peaks), theirs, args)


def _report(
    works: dict[str, Work],
    cases: dict[tuple[str, str], Case],
    peak: float,
    theirs: dict[str, list[float]],
    args: argparse.Namespace,
) -> None:
    if args.json:
        told = [
            {"form": form, "method": label, "unit_s": case.unit_s, "peak_bytes": case.peak}
            | {"share_of_peak": case.flops / statistics.median(case.seconds) / peak}
            | {"compile_s": case.compile_s}
            | (
                {"peer_unit_s": statistics.median(theirs[label.split("/")[0]])}
                if args.rounds and not args.alone
                else {}
            )
            for (form, label), case in cases.items()
        ]
        files.write_json(Path(args.json), {"peak_flops": peak, "cases": told})
    device = jax.devices()[0]
    print(f"{device.device_kind}, {args.dtype}; largest matrix product {peak / 1e9:,.0f} GFLOP/s")
    peer = {method: statistics.median(values) for method, values in theirs.items() if values}
    for method, seconds in peer.items():
        print(f"peer      {method:7} {seconds:8.4f} s a unit")
    for (form, label), case in cases.items():
        seconds, speed = statistics.median(case.seconds), case.flops / statistics.median(case.seconds)
        against = peer.get(label.split("/")[0])
        ratio = f", peer ÷ ours {against / case.unit_s:5.2f}" if against else ""
        print(
            f"{form:9} {label:7} {case.unit_s:8.4f} s a unit{ratio}, {speed / peak:4.0%} of peak, "
            f"{case.peak / 1e9:.2f} GB, compiled in {case.compile_s:.1f} s "
            f"({case.units} units in {seconds:.2f} s)"
        )
    for form, work in works.items():
        bound = 4 / 3 if form == "unpacked" else 1 + 1.5 * work.negative
        base = cases[form, "efuf"].unit_s
        cost = {label: cases[f, label].unit_s / base for f, label in cases if f == form and label != "efuf"}
        told = ", ".join(f"{label} ÷ efuf {value:.2f}" for label, value in cost.items())
        print(f"{form:9} {told}; bound {bound:.2f}, p = {work.negative:.2f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=5, help="steps of each that are timed (default 5)")
    parser.add_argument("--batch", type=int, default=1, help="samples of each set, unpacked and the peer's")
    parser.add_argument("--captions", type=int, default=4, help="captions of a packed batch")
    parser.add_argument("--objects", type=int, default=8, help="sub-sentences of a caption")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--json", default="", help="file for the same figures as JSON")
    parser.add_argument("--alone", action="store_true", help="without the peer")
    return parser


if __name__ == "__main__":
    main()
