"""Runs the road from images to report: `python main.py --config configs/llava_sare.py`."""

import sys

from sare_jax.command import launch

if __name__ == "__main__":
    launch("sare_jax.run:main", sys.argv[1:])
