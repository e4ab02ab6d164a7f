"""`python -m sare_jax.frontier …`; see `command`."""

import sys

from sare_jax.command import launch

if __name__ == "__main__":
    launch("sare_jax.frontier.command:main", sys.argv[1:])
