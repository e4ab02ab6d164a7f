"""Trains the demo's models from the rendering code alone, then prints their quality figures.

    python -m sare_jax.demo.models

The same seeds give the same data and initial weights; sums of floating-point numbers differ in their last
bits between machines, so that the figures agree, but not every byte of the weights.
"""

import argparse
import subprocess
import sys
import time

from sare_jax.demo.train_llava import FLOOR_WEIGHTS

_STEPS = (
    ("train_llava",),
    ("train_llava", "--boldness", "0", "--out", str(FLOOR_WEIGHTS)),
    ("train_clip",),
    ("train_lm",),
    ("quality",),
    ("quality", "--model", str(FLOOR_WEIGHTS)),
)


def main() -> None:
    """Runs the scripts in turn, each in a process of its own, since they set different numbers of threads."""
    parser = argparse.ArgumentParser(
        prog="python -m sare_jax.demo.models",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    for step in _STEPS:
        script, *arguments = step
        print(f"--- {' '.join(step)}", flush=True)
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", f"sare_jax.demo.{script}", *arguments], check=True)
        print(f"--- {script}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
