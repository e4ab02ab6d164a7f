"""`python -m sare_jax.evaluation …`; see `command`."""

import sys

from sare_jax.command import launch

if __name__ == "__main__":
    launch("sare_jax.evaluation.command:run", sys.argv[1:])
