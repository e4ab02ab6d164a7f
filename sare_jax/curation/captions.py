"""Reads captions from JSON lines, a JSON array or `image ### caption` lines, and looks for their images."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sare_jax.data.images import ImageError, find_image
from sare_jax.errors import UserError
from sare_jax.language.english import is_english
from sare_jax.records.splits import SUFFIXES
from sare_jax.records.texts import read_records
from sare_jax.schema import whole_number

LONGEST = 5000
"""Most characters of a caption. Longer ones come from a decoder that repeats itself."""

_IMAGE_KEYS = ("image", "file_name", "image_path")
_TEXT_KEYS = ("caption", "text")
_COCO_NAME = re.compile(r"(?:COCO_\w+_)?(\d{1,12})")


@dataclass(frozen=True)
class Caption:
    """One description of one image.

    Attributes:
      image_id: COCO id of the image; a negative number if neither the record nor the file's name gives one.
      image: file name in the image folder.
      text: the caption, byte for byte as the model gave it.
      cut_off: whether the model stopped at its token limit before the caption was finished.
    """

    image_id: int
    image: str
    text: str
    cut_off: bool = False


def read_captions(path: Path, images: Path) -> tuple[list[Caption], Counter]:
    """Reads captions from JSON lines, a JSON array, or lines `image ### caption` (protocols 1.1).

    A record has the image's name (`image`, `file_name` or `image_path`) or its `image_id`, and a `caption`
    (or `text`); `finish_reason` "length" marks a caption that was cut off. An id that is missing is read off
    the name ("COCO_train2014_000000000009.jpg" is 9), a name that is missing is looked for in `images`.

    Args:
      path: file of the captions.
      images: folder of the images, in which names are looked up by id.

    Returns:
      The captions in order, and reason → number of records left out: `no image named`, `caption is no text`,
      `repeated caption` (the same words for the same image), `half-written last line`.

    Raises:
      UserError: no such file, a line that is neither form, or nothing left; names file and line.
    """
    records, dropped = read_records(path)
    left_out = Counter({reason: len(lines) for reason, lines in dropped.items()})
    by_id: dict[int, str] | None = None
    numbered: dict[str, int] = {}
    captions: dict[tuple[str, str], Caption] = {}
    for record in records:
        name, text = _first(record, _IMAGE_KEYS), _first(record, _TEXT_KEYS)
        image_id = _whole_number(record.get("image_id"))
        if not name and image_id is not None:
            by_id = _names_by_id(images) if by_id is None else by_id
            name = by_id.get(image_id, f"image_id {image_id}")
        if not name:
            left_out["no image named"] += 1
        elif text is None:
            left_out["caption is no text"] += 1
        elif (name, text) in captions:
            left_out["repeated caption"] += 1
        else:
            if image_id is None:
                image_id = id_of_name(name)
            if image_id is None:
                image_id = numbered.setdefault(name, -1 - len(numbered))
            cut_off = record.get("finish_reason") == "length"
            captions[name, text] = Caption(image_id, name, text, cut_off)
    if not captions:
        raise UserError(f"{path}: holds no caption that can be used ({told(left_out)})")
    return list(captions.values()), left_out


def id_of_name(name: str) -> int | None:
    """The COCO id in a file name, "COCO_val2014_000000000042.jpg" or "42.png"; None where there is none."""
    match = _COCO_NAME.fullmatch(Path(name).stem)
    return int(match[1]) if match else None


def unusable(text: str) -> str:
    """Why a caption's text cannot be curated; an empty string if it can.

    Objects are not looked for here: a caption is refused if it is empty, longer than `LONGEST`, more than
    half signs that are not letters, or not English.
    """
    if not text.strip():
        return "empty caption"
    if len(text) > LONGEST:
        return f"longer than {LONGEST} characters"
    signs = [sign for sign in text if not sign.isspace()]
    if 2 * sum(sign.isalpha() for sign in signs) < len(signs):
        return "mostly no letters"
    return "" if is_english(text) else "not English"


def told(reasons: Counter) -> str:
    """Counts by reason as text for a message: "3 empty caption, 1 not English"."""
    return ", ".join(f"{number} {reason}" for reason, number in reasons.items()) or "no record"


def _first(record: dict, keys: Iterable[str]) -> str | None:
    return next((record[key] for key in keys if isinstance(record.get(key), str)), None)


def _whole_number(value: object) -> int | None:
    if isinstance(value, str):
        return whole_number(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _names_by_id(images: Path) -> dict[int, str]:
    names = sorted(path.name for path in images.glob("*") if path.suffix.lower() in SUFFIXES)
    return {image_id: name for name in names if (image_id := id_of_name(name)) is not None}


def refuse_reserved(captions: Sequence[Caption], reserved: Collection[int]) -> None:
    """Refuses captions of images that are set aside for validation and test (cases CUR-15).

    Raises:
      UserError: names the first such image and their number.
    """
    forbidden = sorted({c.image_id for c in captions} & set(reserved))
    if forbidden:
        raise UserError(
            f"captions of {len(forbidden)} images reserved for validation and test, the first is image_id "
            f"{forbidden[0]}; curate the training images alone"
        )


def usable_images(captions: Sequence[Caption], folder: Path) -> tuple[list[str], dict[str, str]]:
    """Looks for the images before anything is computed.

    Args:
      captions: their image names are looked for, each once, in order of first use.
      folder: the image folder.

    Returns:
      The names of images that exist, and name → reason for the others (`image missing`, `image outside the
      folder` and the like, see `data.images.find_image`).

    Raises:
      UserError: the folder is missing or empty, or holds none of the images.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such image folder; give one with --images or config.data.images")
    if not any(folder.iterdir()):
        raise UserError(f"{folder}: the image folder is empty; put the captioned images there")
    names = list(dict.fromkeys(c.image for c in captions))
    refused = {name: reason for name in names if (reason := _refusal(folder, name))}
    present = [name for name in names if name not in refused]
    if not present:
        raise UserError(
            f"{folder}: holds none of the {len(names)} captioned images "
            f"({told(Counter(refused.values()))}), such as {names[0][:100]!r}"
        )
    return present, refused


def images_without_caption(captions: Sequence[Caption], folder: Path) -> int:
    """Number of images that lie in the folder itself and that no caption describes."""
    captioned = {c.image for c in captions}
    return sum(p.suffix.lower() in SUFFIXES and p.name not in captioned for p in folder.iterdir())


def _refusal(folder: Path, name: str) -> str:
    """Why an image name cannot be used; an empty string if it can."""
    try:
        find_image(folder, name)
    except ImageError as error:
        return f"image {error.reason}"
    return ""
