"""Captions in: JSON lines with an image and what was said about it."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sare_jax import files
from sare_jax.errors import UserError


@dataclass(frozen=True)
class Caption:
    """One description of one image.

    Attributes:
      image_id: COCO id of the image.
      image: file name in the image folder.
      text: the caption, byte for byte as the model gave it.
      cut_off: the model stopped for want of room and not because it was done.
    """

    image_id: int
    image: str
    text: str
    cut_off: bool = False


def read_captions(path: Path) -> list[Caption]:
    """Reads JSON lines {"image_id": int, "image": str, "caption": str, "finish_reason": "stop" | "length"}.

    Raises:
      UserError: no such file, no line in it, or a line lacks a field; names file, line and field.
    """
    captions = []
    for number, record in enumerate(files.read_jsonl(path), start=1):
        for field, kind in (("image_id", int), ("image", str), ("caption", str)):
            if not isinstance(record.get(field), kind):
                raise UserError(
                    f"{path}:{number}: needs {field!r} ({kind.__name__}), has {record.get(field)!r}"
                )
        cut_off = record.get("finish_reason") == "length"
        captions.append(Caption(record["image_id"], record["image"], record["caption"], cut_off))
    if not captions:
        raise UserError(f"{path}: holds no captions; run the stage caption first")
    return captions


def refuse_reserved(captions: Sequence[Caption], reserved: Collection[int]) -> None:
    """Refuses captions of images that are set aside for validation and test (cases CUR-15).

    Raises:
      UserError: names the first such image and their number.
    """
    found = sorted({c.image_id for c in captions} & set(reserved))
    if found:
        raise UserError(
            f"captions of {len(found)} images reserved for validation and test, the first is image_id "
            f"{found[0]}; curate the training images alone"
        )


def usable_images(captions: Sequence[Caption], folder: Path) -> tuple[list[str], dict[str, str]]:
    """Looks for the images before anything is computed.

    Args:
      captions: their image names are looked for, each once, in order of first use.
      folder: the image folder.

    Returns:
      The names found, and for the others name → reason (`image missing`, `image outside the folder`).

    Raises:
      UserError: the folder is missing or empty, or holds none of the images.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such image folder; give one with --images or config.data.images")
    if not any(folder.iterdir()):
        raise UserError(f"{folder}: the image folder is empty; put the captioned images there")
    names = list(dict.fromkeys(c.image for c in captions))
    refused = {}
    for name in names:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            refused[name] = "image outside the folder"
        elif not (folder / name).is_file():
            refused[name] = "image missing"
    found = [name for name in names if name not in refused]
    if not found:
        reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(refused.values()).items())
        raise UserError(
            f"{folder}: holds none of the {len(names)} captioned images ({reasons}), such as {names[0]}"
        )
    return found, refused
