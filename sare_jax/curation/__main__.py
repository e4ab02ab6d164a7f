"""`python -m sare_jax.curation …`; see `command`."""

import sys

from sare_jax.command import launch

if __name__ == "__main__":
    launch("sare_jax.curation.command:main", sys.argv[1:])
