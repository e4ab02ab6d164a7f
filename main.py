"""Runs the road from images to report: `python main.py --config configs/llava_sare.py`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from sare_jax.command import config_dict, guarded, normalise_arguments
from sare_jax.config import parse

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Settings file; single keys with --config.section.key=value.", lock_config=True
)
WORKDIR = flags.DEFINE_string(
    "workdir", "", "Folder of all artifacts; default runs/<name of the experiment>."
)


def main(arguments: Sequence[str]) -> None:
    """Checks the settings, then hands over to the stages."""
    config = parse(config_dict(CONFIG))
    from sare_jax import stages  # after the checks: a typo should not wait for jax

    stages.run(config, Path(WORKDIR.value or Path("runs") / config.name))


def parse_flags(arguments: Sequence[str]) -> list[str]:
    """Parses the command line; every mistake becomes one line."""
    return normalise_arguments(flags.FLAGS, arguments, required=("config",))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.set_verbosity(logging.WARNING)
    app.run(guarded(main), argv=sys.argv, flags_parser=guarded(parse_flags))
