"""Runs the road from images to report: `python main.py --config configs/llava_sare.py`."""

import sys

from sare_jax.run import main

if __name__ == "__main__":
    main(sys.argv[1:])
