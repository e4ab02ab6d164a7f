"""`python -m sare_jax.probe …`; see `command`."""

import sys

from sare_jax.command import launch

if __name__ == "__main__":
    launch("sare_jax.probe.command:main", sys.argv[1:])
