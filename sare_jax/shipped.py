"""What comes with the package, found from whatever folder a command is started in.

The shipped experiments are `configs/` of the repository, which the package reaches by a link; an installed
package holds the files themselves.
"""

from pathlib import Path

PACKAGE = Path(__file__).parent
CONFIGS = PACKAGE / "configs"
_NO_EXPERIMENTS = ("__init__", "common")


def located(path: str | Path) -> Path:
    """The file or folder that a setting names.

    Args:
      path: as the setting has it. One that is not there and begins with `sare_jax/` lies in the package, so
        that `sare_jax/demo/weights/llava` is the same folder everywhere.
    """
    path = Path(path).expanduser()
    if path.parts[:1] == (PACKAGE.name,) and not path.exists():
        return PACKAGE.parent / path
    return path


def config_file(named: str) -> str:
    """The config file that `--config` names.

    Args:
      named: a path, or the name of a shipped experiment, and `:VARIANT` where there is one. `llava_sare`,
        `llava_sare.py` and `configs/llava_sare.py` are the shipped file where no file of that name is there.

    Returns:
      The path of the file, and `:VARIANT`.
    """
    name, colon, variant = named.partition(":")
    path = Path(name)
    if path.is_file() or path.parent not in (Path(), Path("configs")):
        return named
    experiment = path.name.removesuffix(".py")
    return f"{CONFIGS / experiment}.py{colon}{variant}" if experiment in experiments() else named


def experiments() -> list[str]:
    """Names of the shipped experiments."""
    return sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem not in _NO_EXPERIMENTS)
