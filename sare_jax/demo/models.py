"""Rebuilds the demo's three models from the rendering code, then prints what they are worth.

    python -m sare_jax.demo.models

The same seeds give the same data and initial weights; sums of floating-point numbers differ in their last
bits between machines, so that the figures agree, but not every byte of the weights.
"""

import subprocess
import sys
import time

_STEPS = ("train_llava", "train_clip", "train_lm", "quality")


def main() -> None:
    """Runs one script after the other, each in a process of its own, as they differ in their threads."""
    for step in _STEPS:
        print(f"--- {step}", flush=True)
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", f"sare_jax.demo.{step}"], check=True)
        print(f"--- {step}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
