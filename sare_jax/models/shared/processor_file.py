"""The settings of an image processor, from whichever file of a model's folder holds them."""

from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.schema import checked, read_object


def read_processor(folder: Path) -> tuple[dict[str, Any], Path]:
    """Reads preprocessor_config.json, or processor_config.json as transformers 5 writes it.

    Returns:
      The image processor's settings, and the file.

    Raises:
      UserError: there is no such file, it has no three means or deviations, or a deviation is 0.
    """
    path = folder / "preprocessor_config.json"
    if path.is_file():
        return _with_means(read_object(path), path), path
    path = folder / "processor_config.json"
    if path.is_file() and "image_processor" in (nested := read_object(path)):
        return _with_means(checked(nested["image_processor"], dict[str, Any], str(path)), path), path
    raise UserError(
        f"{folder}: no image processor; looked for preprocessor_config.json and for 'image_processor' in "
        "processor_config.json. Copy the file from the model's page on the hub"
    )


def _with_means(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    for key in ("image_mean", "image_std"):
        if not isinstance(raw.get(key), list) or len(raw[key]) != 3:
            raise UserError(f"{path}: {key} is {raw.get(key)!r}, need three numbers")
    if 0 in raw["image_std"]:
        raise UserError(f"{path}: image_std is {raw['image_std']}, and pixels are divided by it; need no 0")
    return raw
