"""Everything that is worth measuring on one CUDA card, in eight minutes, as Markdown and JSON.

    python -m benchmarks.gpu [--shape 7b] [--parts card ceilings step captions curate load] [--out FOLDER]

needs no weights and no data: models are random, of a shape of `benchmarks.shapes` (`tiny`, `small`, `1b`,
`7b`).

- card: the card and the versions;
- ceilings: the largest matrix product and the fastest copy that JAX reaches, against which the rest is held;
- step: EFUF and SARE, packed and unpacked, ε* in every step and in every tenth, beside PyTorch's with
  transformers in the same dtype, compiled by torch.compile on a card: seconds a unit, their ratio, and the
  share of the largest product;
- captions: tokens a second beside transformers' `generate`, and the share of the copy's speed at which
  weights, keys and values are read;
- curate: images a second beside the image encoder alone (`benchmarks.curate`);
- load: a checkpoint from disk into the card, beside a plain read (`benchmarks.load`; `--load_scale`).

Each part is a process of its own, so that one that fails or takes too long leaves the others alone. On a
machine without a card it runs on the CPU: `--shape tiny`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import shapes
from sare_jax import files

SECONDS = 480.0


@dataclass
class Bench:
    """What the parts share.

    Attributes:
      shape: name of the models' shape.
      dtype: of weights and products.
      batch: captions written at a time.
      new: tokens of a caption.
      images: scored by the curation.
      load_scale: of the loaded checkpoint's widths and layers.
      until: `time.monotonic()` at which all has to be done.
    """

    shape: str
    dtype: str
    batch: int
    new: int
    images: int
    load_scale: float
    until: float

    def run(self, *arguments: str) -> str:
        """Standard output of `python -m …` in this shape.

        Raises:
          RuntimeError: it failed, or there was no time left; says what.
        """
        there = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "SARE_SHAPE": self.shape}
        left = self.until - time.monotonic()
        if left <= 0:
            raise RuntimeError("no time left")
        try:
            done = subprocess.run(
                [sys.executable, "-m", *arguments],
                env=os.environ | there,
                capture_output=True,
                text=True,
                timeout=left,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done in {left:.0f} s") from None
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["failed"])[-1][:300])
        return done.stdout


def card(bench: Bench) -> dict[str, Any]:
    """The card and the versions."""
    script = (
        "import json, platform, jax, jaxlib, torch, transformers; d = jax.devices()[0];"
        "print(json.dumps({'card': d.device_kind, 'platform': d.platform, 'devices': len(jax.devices()),"
        "'python': platform.python_version(), 'jax': jax.__version__, 'jaxlib': jaxlib.__version__,"
        "'torch': torch.__version__, 'transformers': transformers.__version__}))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return json.loads(told.splitlines()[-1]) | {"shape": bench.shape, "dtype": bench.dtype}


def ceilings(bench: Bench) -> dict[str, Any]:
    """Operations a second of the largest product, and bytes a second of the fastest copy."""
    return json.loads(bench.run("benchmarks.ceilings", bench.dtype).splitlines()[-1])


def step(bench: Bench) -> dict[str, Any]:
    """Seconds a unit of each method and form, and of the peer."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "step.json"
        bench.run("benchmarks.step", "--rounds", "3", "--dtype", bench.dtype, "--json", str(out))
        return files.read_json(out)


def captions(bench: Bench) -> dict[str, Any]:
    """Tokens a second of ours and of transformers, and what share of a copy's speed ours is."""
    sizes = ("--batch", str(bench.batch), "--new", str(bench.new), "--dtype", bench.dtype)
    found: dict[str, Any] = {}
    for who in ("ours", "transformers"):
        found[who] = json.loads(bench.run("benchmarks.captions", "--who", who, *sizes).splitlines()[-1])
        found[who]["tokens_per_s"] = bench.batch * bench.new / found[who]["whole_s"]
    script = f"from benchmarks.captions import read_bytes; print(read_bytes({bench.batch}, {bench.new}, 2))"
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"SARE_SHAPE": bench.shape},
        capture_output=True,
        text=True,
        check=True,
    )
    decoding = max(found["ours"]["whole_s"] - found["ours"]["prompt_s"], 1e-9)
    scale = 2 if bench.dtype == "float32" else 1
    return found | {"read_bytes_per_s": scale * int(told.stdout) / decoding}


def curate(bench: Bench) -> dict[str, Any]:
    """What `benchmarks.curate` prints."""
    sizes = ("--mode", "whole", "--rounds", "1", "--images", str(bench.images))
    return {"printed": bench.run("benchmarks.curate", *sizes).splitlines()}


def load(bench: Bench) -> dict[str, Any]:
    """What `benchmarks.load` prints."""
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "model")
        told = bench.run("benchmarks.load", "--folder", place, "--scale", str(bench.load_scale))
        return {"printed": told.splitlines()}


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "card": card,
    "ceilings": ceilings,
    "step": step,
    "captions": captions,
    "curate": curate,
    "load": load,
}


def page(found: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    told = ["# Measured on one device", ""]
    told += [f"- {key}: {value}" for key, value in found.get("card", {}).items()]
    top = found.get("ceilings", {})
    if "flops" in top:
        told += [f"- largest matrix product: {top['flops'] / 1e12:.1f} TFLOP/s"]
        told += [f"- fastest copy: {top['copy_bytes_per_s'] / 1e9:.0f} GB/s read and written"]
    if cases := found.get("step", {}).get("cases"):
        told += ["", "| step | form | s a unit | peer ÷ ours | share of the largest product | GB |"]
        told += ["|---|---|---|---|---|---|"]
    for case in cases or ():
        ratio = f"{case['peer_unit_s'] / case['unit_s']:.2f}" if "peer_unit_s" in case else ""
        told.append(
            f"| {case['method']} | {case['form']} | {case['unit_s']:.4f} | {ratio} | "
            f"{case['share_of_peak']:.0%} | {case['peak_bytes'] / 1e9:.2f} |"
        )
    if "ours" in (written := found.get("captions", {})):
        rates = {who: written[who]["tokens_per_s"] for who in ("ours", "transformers")}
        told += ["", f"captions: {rates['ours']:,.0f} tokens/s, transformers {rates['transformers']:,.0f}: "]
        told[-1] += f"{rates['ours'] / rates['transformers']:.2f} ×"
        if "copy_bytes_per_s" in top:
            told[-1] += f"; reads at {written['read_bytes_per_s'] / top['copy_bytes_per_s']:.0%} of a copy"
    for name, part in found.items():
        if "printed" in part:
            told += ["", f"{name}:", "", *(f"    {line}" for line in part["printed"])]
        if "failed" in part:
            told += ["", f"{name}: not measured: {part['failed']}"]
    return "\n".join(told) + "\n"


def main(argv: list[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    bench = Bench(
        args.shape,
        args.dtype,
        args.batch,
        args.new,
        args.images,
        args.load_scale,
        time.monotonic() + args.seconds,
    )
    found: dict[str, Any] = {}
    for name in args.parts:
        start = time.monotonic()
        try:
            found[name] = PARTS[name](bench)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            found[name] = {"failed": str(error)}
        found[name]["took_s"] = round(time.monotonic() - start, 1)
        print(f"{name}: {found[name]['took_s']:.0f} s", file=sys.stderr, flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    files.write_json(args.out / "gpu.json", found)
    files.write_text(args.out / "gpu.md", page(found))
    print(page(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    add("--shape", choices=list(shapes.SHAPES), default="7b")
    add("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    add("--batch", type=int, default=16, help="captions at a time")
    add("--new", type=int, default=100, help="tokens of a caption")
    add("--images", type=int, default=512, help="images that the curation scores")
    add("--load-scale", dest="load_scale", type=float, default=0.3, help="of the loaded checkpoint; 1 is 7B")
    add("--seconds", type=float, default=SECONDS, help="in all; parts that come too late are left out")
    add("--out", type=Path, default=Path("gpu"), help="folder of gpu.json and gpu.md")
    return parser


if __name__ == "__main__":
    main()
