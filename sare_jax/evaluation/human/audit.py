"""The work of one annotator: the captions, their images, the marks made so far.

A change is on disk before the page shows it as saved.
"""

import fcntl
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from sare_jax.data.images import ImageError, check_image
from sare_jax.errors import UserError
from sare_jax.files import hash_value
from sare_jax.records import brackets
from sare_jax.records.annotations import Annotated, image_of, read_annotations, write_annotations
from sare_jax.records.brackets import Mark
from sare_jax.records.texts import Dropped
from sare_jax.schema import whole_number
from sare_jax.unwritable import writing

IMAGE_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
_LAST_NUMBER = re.compile(r"(\d+)(?:\.\w+)?$")


class StaleError(Exception):
    """A change to a caption that has changed elsewhere, such as in a second window."""


def sample(records: Sequence[dict], size: int, seed: int, dropped: Dropped) -> list[Annotated]:
    """Draws the captions to audit, none of them marked yet.

    The draw depends on the image ids and the seed alone: neither on the order of the file nor on which other
    captions it holds, so that two models are audited on the same images, and a larger sample contains a
    smaller one. A caption without text is drawn like any other, and is finished from the start.

    Args:
      records: dicts with `image_id` (or `image`) and `caption` (or `text`).
      size: how many captions to draw; 0 takes all.
      seed: decides which captions are drawn.
      dropped: gets the image or record number of what cannot be used, by reason.

    Raises:
      UserError: two captions of one image, nothing to show.
    """
    captions: dict[int | str, str] = {}
    clashing = []
    for number, record in enumerate(records, start=1):
        image, text = image_of(record), record.get("caption", record.get("text"))
        if image is None:
            dropped.add("no image id", f"record {number}")
        elif not isinstance(text, str):
            dropped.add("caption is no text", image)
        elif captions.setdefault(image, text) != text:
            clashing.append(str(image))
    if clashing:
        raise UserError(f"more than one caption for image(s) {', '.join(clashing[:20])}; keep one each")
    if not captions:
        reasons = ", ".join(f"{reason}: {len(all_)}" for reason, all_ in dropped.items()) or "no captions"
        raise UserError(f"nothing to annotate ({reasons})")
    drawn = sorted(captions, key=lambda image: (hash_value([seed, _number(image)]), str(image)))
    chosen = drawn[: size or None]
    return [Annotated(image, captions[image], done=not captions[image].strip()) for image in chosen]


def whole_session(records: Sequence[dict], dropped: Dropped) -> list[Annotated]:
    """All captions of a session, in its order, none of them marked yet; an image may have several.

    Args:
      records: dicts with `image` (or `image_id`) and `caption`.
      dropped: gets the image or record number of what cannot be used, by reason.

    Raises:
      UserError: nothing to show.
    """
    items: dict[tuple[int | str, str], Annotated] = {}
    for number, record in enumerate(records, start=1):
        image, text = image_of(record), record.get("caption")
        if image is None:
            dropped.add("no image id", f"record {number}")
        elif not isinstance(text, str):
            dropped.add("caption is no text", image)
        else:
            items[image, text] = Annotated(image, text, done=not text.strip())
    if not items:
        raise UserError(f"nothing to annotate ({dropped.told()})")
    return list(items.values())


def _number(image: int | str) -> int | str:
    """The image's number where its name ends in one, so that 42 and COCO_val2014_000000000042.jpg agree."""
    match = _LAST_NUMBER.search(str(image))
    number = whole_number(match.group(1)) if match else None
    return image if number is None else number


def find_images(items: Sequence[Annotated], folder: Path) -> list[Path | None]:
    """The image file of each caption: by its name, else by the number that its name ends in.

    What is no image of the folder, such as a link to elsewhere, is passed over (`data.images.check_image`).

    Raises:
      UserError: no such folder, no image for any caption, or several files with the same number.
    """
    try:
        files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_TYPES]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    by_name: dict[str, list[Path]] = {}
    by_number: dict[int | str, list[Path]] = {}
    for path in files:
        by_name.setdefault(path.stem, []).append(path)
        by_number.setdefault(_number(path.name), []).append(path)
    by_name |= {path.name: [path] for path in files}
    images: list[Path | None] = []
    for item in items:
        fitting = by_name.get(Path(str(item.image)).name) or by_number.get(_number(item.image), [])
        if len(fitting) > 1:
            shown = ", ".join(path.name for path in fitting[:3])
            raise UserError(f"{folder}: image {item.image} could be {shown}; name the file in the captions")
        images.append(fitting[0] if fitting and _is_image(fitting[0]) else None)
    if not any(images):
        raise UserError(f"{folder}: no image of these captions in it (looked for {items[0].image}, …)")
    return images


def _is_image(path: Path) -> bool:
    try:
        check_image(path.parent, path.name)
    except ImageError:
        return False
    return True


@dataclass
class Audit:
    """The captions that one person annotates; safe to use from several threads.

    Attributes:
      path: the annotations file (JSON lines, or brackets in a *.txt), rewritten at every change.
      items: the captions, in the order shown.
      images: each caption's image file; None where there is none.
    """

    path: Path
    items: list[Annotated]
    images: list[Path | None]
    _guard: threading.Lock = field(init=False, default_factory=threading.Lock, repr=False)

    def change(self, place: int, version: str, marks: Sequence[Mark], done: bool) -> str:
        """Replaces one caption's marks and saves everything; returns its new version (`version_of`).

        Raises:
          IndexError: no such caption.
          StaleError: `version` is not the present one.
          ValueError: a mark reaches beyond the caption or overlaps another, or its verdict is unknown.
          WriteError: the file cannot be written; nothing has changed then.
        """
        if not 0 <= place < len(self.items):
            raise IndexError(place)
        with self._guard:
            item = self.items[place]
            if version != version_of(item):
                raise StaleError
            changed = replace(item, marks=brackets.check(item.caption, marks), done=done)
            items = [*self.items[:place], changed, *self.items[place + 1 :]]
            write_annotations(self.path, items)
            self.items = items
            return version_of(changed)

    def describe(self) -> dict[str, Any]:
        """What the page shows, JSON-able: the annotator, and of each caption its text, marks and state."""
        with self._guard:
            return {
                "annotator": self.items[0].annotator,
                "items": [
                    {
                        "image": str(item.image),
                        "has_image": image is not None,
                        "caption": item.caption,
                        "words": brackets.words(item.caption),
                        "marks": item.marks,
                        "done": item.done,
                        "version": version_of(item),
                    }
                    for item, image in zip(self.items, self.images, strict=True)
                ],
            }

    @property
    def done(self) -> int:
        """How many captions are finished."""
        return sum(item.done for item in self.items)


def version_of(item: Annotated) -> str:
    """Hash of a caption's marks and of whether it is finished, 16 hexadecimal digits.

    The page sends the version that it shows with every change. A change made to an older version, in a second
    window say, is noticed by it and refused.
    """
    return hash_value([item.marks, item.done])[:16]


def resume(path: Path, drawn: Sequence[Annotated], annotator: str) -> list[Annotated]:
    """The drawn captions with the marks that `path` already holds for them.

    There may be more of them than the file holds: of a larger sample, or of a session that has grown by an
    attack.

    Raises:
      UserError: the file is another person's, or holds captions that are not among those drawn.
    """
    fresh = [replace(item, annotator=annotator) for item in drawn]
    if not path.exists():
        return fresh
    kept, dropped = read_annotations(path)
    if dropped:
        reasons = ", ".join(f"{reason}: {', '.join(which[:3])}" for reason, which in dropped.items())
        raise UserError(f"{path}: not whole ({reasons}); mend it, or name another --out")
    names = {item.annotator for item in kept} - {"", annotator}
    if names:
        raise UserError(f"{path}: holds the work of {', '.join(sorted(names))}; name another --out")
    held = {item.key: item for item in kept}
    if not held.keys() <= {item.key for item in drawn}:
        raise UserError(
            f"{path}: holds other captions than --session, or --captions, --sample and --seed, give; give "
            "what it was made with, or name another --out"
        )
    return [replace(held.get(item.key, item), annotator=annotator) for item in fresh]


def claim(path: Path) -> TextIO:
    """Keeps a second process from writing the same annotations; holds until the returned file is closed.

    Raises:
      UserError: another process has it, or nothing can be written there.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise UserError(f"{path}: another annotation page is writing it; end that one first") from None
    return lock
