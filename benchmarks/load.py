"""Memory and speed of loading: a random checkpoint in the form of llava-hf/llava-1.5-7b-hf, by `load_model`.

    python -m benchmarks.load --folder /disk/with/room

writes it (three float16 shards and their index, 14.1 GB), loads it in bfloat16 and prints

- the peak of the process's anonymous memory (RssAnon, sampled every few milliseconds; mapped file pages,
  which the system takes back when it needs them, do not count) ÷ the bytes of the loaded weights. Goal: at
  most 1.15;
- MB of files a second, beside a plain sequential read of the same files. Both start with the files dropped
  from this system's page cache (posix_fadvise); the plain read comes first.

What it wrote is removed again, unless --keep; a kept checkpoint is used by the next run. --scale makes all
widths and layers smaller, for a first try.
"""

import argparse
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.models.interface import LoadedModel
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.family import FAMILY
from sare_jax.models.llava.names import entries
from sare_jax.models.load import abstract, load_model
from sare_jax.models.shared.partition import flatten
from sare_jax.models.shared.safetensors_io import INDEX, write_file
from sare_jax.models.shared.target import here
from sare_jax.models.shared.weight_files import shards
from sare_jax.progress import bar

GOAL = 1.15
NUM_SHARDS = 3
READ_BLOCK = 1 << 24
FLOAT16 = np.dtype(np.float16)

Layout = list[tuple[str, np.dtype, tuple[int, ...]]]


def main(argv: list[str] | None = None) -> None:
    options = _parser().parse_args(argv)
    raw = hf_config(options.scale)
    plan = plan_shards(checkpoint_layout(LlavaConfig.from_hf(raw)))
    size = sum(_bytes(shape) for shard in plan for _, _, shape in shard)
    if options.folder is None:
        raise UserError(f"{size / 1e9:.1f} GB of disk are needed for a while; say where with --folder FOLDER")
    folder = options.folder
    is_there = (folder / INDEX).is_file() and files.read_json(folder / "config.json") == raw
    if not is_there:
        _require_room(folder, size)
        print(f"writes {size / 1e9:.1f} GB to {folder}", flush=True)
    try:
        if not is_there:
            write_checkpoint(folder, raw, plan, size)
        measure(folder, size)
    finally:
        if options.keep:
            print(f"kept {folder}")
        else:
            files.remove(folder)


def measure(folder: Path, size: int) -> None:
    """Reads the files plainly, loads them, and prints the ratios."""
    plain = _timed(folder, lambda: _read_plainly(folder))
    with peak_anonymous() as peak:
        loaded, seconds = _timed_result(folder, lambda: load_model(folder, dtype=jnp.bfloat16))
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves((loaded.params, loaded.frozen)))
    check_values(loaded)
    ratio = peak.highest / weights
    print(f"device: {jax.devices()[0].device_kind}; files: {size / 1e9:.2f} GB, cold")
    print(f"weights                       {weights / 1e9:8.2f} GB")
    print(
        f"peak anonymous memory         {peak.highest / 1e9:8.2f} GB, of which {peak.before / 1e9:.2f} before"
    )
    print(f"peak anonymous ÷ weights      {ratio:8.3f}     goal at most {GOAL}")
    print(f"plain read                    {size / plain / 1e6:8.0f} MB/s")
    print(f"load                          {size / seconds / 1e6:8.0f} MB/s  ({seconds:.0f} s)")
    print(f"load ÷ plain read             {plain / seconds:8.2f}")


@dataclass
class Peak:
    """Anonymous memory of this process in bytes: when the measurement began, and its highest value."""

    before: int
    highest: int

    @property
    def grown(self) -> int:
        return self.highest - self.before


@contextmanager
def peak_anonymous(every: float = 0.002) -> Iterator[Peak]:
    """Samples RssAnon in a thread while the block runs."""
    peak = Peak(_anonymous(), 0)
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(every):
            peak.highest = max(peak.highest, _anonymous())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        peak.highest = max(peak.highest, _anonymous())


def hf_config(scale: float) -> dict:
    """config.json of llava-hf/llava-1.5-7b-hf, with all widths and layers times `scale`."""

    def part(value: int, step: int) -> int:
        return max(step, round(value * scale / step) * step)

    vision_width, width = part(1024, 128), part(4096, 128)
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": part(32064, 64) - 64,
        "pad_token_id": part(32064, 64) - 63,
        "projector_hidden_act": "gelu",
        "text_config": {
            "model_type": "llama",
            "vocab_size": part(32064, 64),
            "hidden_size": width,
            "intermediate_size": part(11008, 128),
            "num_hidden_layers": part(32, 2),
            "num_attention_heads": width // 128,
            "num_key_value_heads": width // 128,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": vision_width,
            "intermediate_size": part(4096, 128),
            "num_hidden_layers": part(24, 3),
            "num_attention_heads": vision_width // 64,
            "image_size": 336,
            "patch_size": 14,
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "torch_dtype": "float16",
    }


def checkpoint_layout(config: LlavaConfig) -> Layout:
    """Every tensor of the published form, those that are never computed with included."""
    _, shapes = abstract(FAMILY, config, here())
    layout = [
        (name, FLOAT16, entry.hub_shape(shapes[entry.path].shape))
        for entry in entries(config)
        for name in entry.names()
    ]
    first = "vision_tower.vision_model.encoder.layers.0."
    layer = [(name.removeprefix(first), shape) for name, _, shape in layout if name.startswith(first)]
    for number in range(config.num_vision_layers_run, config.vision.num_layers):
        prefix = first.replace(".0.", f".{number}.")
        layout += [(prefix + name, FLOAT16, shape) for name, shape in layer]
    for leaf in ("weight", "bias"):
        name = f"vision_tower.vision_model.post_layernorm.{leaf}"
        layout.append((name, FLOAT16, (config.vision.width,)))
    return layout


def plan_shards(layout: Layout) -> list[Layout]:
    """In their order, into files of about the same size: three, as published."""
    total = sum(_bytes(shape) for *_, shape in layout)
    plan: list[Layout] = [[] for _ in range(NUM_SHARDS)]
    position = 0
    for entry in layout:
        plan[position * NUM_SHARDS // total].append(entry)
        position += _bytes(entry[2])
    return plan


def write_checkpoint(folder: Path, raw: dict, plan: list[Layout], size: int) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    weight_map = {}
    with bar(size, "write", unit="B") as progress:

        def values(layout: Layout) -> Iterator[np.ndarray]:
            for _, _, shape in layout:
                bits = rng.integers(0, 1 << 16, shape, np.uint16)
                bits &= 0xBBFF  # below 2 in magnitude, never infinite and never NaN
                yield bits.view(np.float16)
                progress.update(_bytes(shape))

        for number, layout in enumerate(plan, start=1):
            name = f"model-{number:05d}-of-{len(plan):05d}.safetensors"
            write_file(folder / name, layout, values(layout), {"format": "pt"})
            weight_map |= {tensor: name for tensor, *_ in layout}
    files.write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": weight_map})
    files.write_json(folder / "config.json", raw)


def check_values(loaded: LoadedModel) -> None:
    """Compares a few parameters with their files, so that what was measured was the right thing."""
    flat = flatten(loaded.params) | flatten(loaded.frozen)
    for entry in entries(loaded.config)[:: max(1, len(flat) // 12)]:
        array = flat[entry.path]
        tensor = loaded.source.tensors[entry.names()[-1]].map()
        expected = tensor.transpose(entry.axes).astype(array.dtype)
        if not np.array_equal(np.asarray(array[-1] if entry.layers else array), expected):
            raise AssertionError(f"{entry.path} is not what its file holds")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--folder", type=Path, help="where the checkpoint is written; on a disk, not in memory"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="times all widths and layers (default 1)")
    parser.add_argument("--keep", action="store_true", help="leave the checkpoint there")
    return parser


def _require_room(folder: Path, size: int) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size + (1 << 28):
        folder.rmdir()
        raise UserError(f"{folder}: {size / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def _timed(folder: Path, work) -> float:
    return _timed_result(folder, work)[1]


def _timed_result(folder: Path, work) -> tuple:
    """What `work` gives, and its seconds, with the files dropped from the page cache before."""
    for file in shards(folder):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _read_plainly(folder: Path) -> None:
    block = bytearray(READ_BLOCK)
    for file in shards(folder):
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(block):
                pass


def _anonymous() -> int:
    """RssAnon of this process in bytes; Linux alone tells it."""
    with open("/proc/self/status") as stream:
        for line in stream:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    raise UserError("/proc/self/status has no RssAnon; this benchmark needs Linux 4.5 or newer")


def _bytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * FLOAT16.itemsize


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
