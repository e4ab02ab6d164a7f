"""`python -m sare_jax.report …`; see `command`."""

import sys

from sare_jax.command import launch

if __name__ == "__main__":
    launch("sare_jax.report.command:main", sys.argv[1:])
