"""Captions with a person's marks, in files: JSON lines while work goes on, or lines with brackets."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.files import write_jsonl, write_text
from sare_jax.records import brackets
from sare_jax.records.brackets import Mark
from sare_jax.records.texts import Dropped, read_records
from sare_jax.schema import whole_number


@dataclass(frozen=True)
class Annotated:
    """One caption as one person sees it.

    Attributes:
      image: the image's id or file name, as the captions have it.
      caption: the text.
      marks: objects, in the order of the caption.
      done: whether the person has finished with it; a caption without marks says nothing until then.
      annotator: who that is; "" where the file does not say.
    """

    image: int | str
    caption: str
    marks: tuple[Mark, ...] = ()
    done: bool = False
    annotator: str = ""

    @property
    def key(self) -> tuple[int | str, str]:
        """Image and caption, which no two annotations of a person share."""
        return self.image, self.caption

    def record(self) -> dict[str, Any]:
        """As a JSON-able record; `text` repeats the marked words for people who read the file."""
        return {
            "image_id": self.image,
            "caption": self.caption,
            "marks": [mark._asdict() | {"text": self.caption[mark.start : mark.end]} for mark in self.marks],
            "done": self.done,
            "annotator": self.annotator,
        }


def read_annotations(path: Path | str) -> tuple[list[Annotated], Dropped]:
    """Reads annotations, JSON lines as this project writes them or lines `image ### text with brackets`.

    What cannot be used is left out by reason: no image id, caption is no text, brackets or marks that do not
    fit, repeated. Lines with brackets count as done. An image may have several captions, as in a session.

    Raises:
      UserError: no such file, no record in it, a line that is neither, or one caption of an image with two
        different annotations; names the image.
    """
    records, dropped = read_records(path)
    found: dict[tuple[int | str, str], Annotated] = {}
    clashing = []
    for number, record in enumerate(records, start=1):
        item = _read(record, f"record {number}", dropped)
        if item is None:
            continue
        if found.setdefault(item.key, item) is not item:
            if found[item.key] == item:
                dropped.add("repeated", item.image)
            else:
                clashing.append(str(item.image))
    if clashing:
        raise UserError(f"{path}: more than one annotation of {', '.join(clashing[:20])}; keep one each")
    return list(found.values()), dropped


def _read(record: dict[str, Any], where: str, dropped: Dropped) -> Annotated | None:
    image = image_of(record)
    if image is None:
        dropped.add("no image id", where)
        return None
    caption = record.get("caption")
    if not isinstance(caption, str):
        dropped.add("caption is no text", image)
        return None
    done, annotator = record.get("done", True), str(record.get("annotator") or "")
    try:
        if "marks" in record:
            marks = brackets.check(caption, [_mark(mark) for mark in record["marks"]])
        else:
            caption, marks = brackets.parse(caption)
    except (KeyError, TypeError, ValueError) as error:
        reason = "marks that do not fit" if "marks" in record else "brackets that do not match"
        dropped.add(reason, f"{image}: {error}")
        return None
    return Annotated(image, caption, marks, done is True, annotator)


def _mark(mark: dict[str, Any]) -> Mark:
    start, end = mark["start"], mark["end"]
    if type(start) is not int or type(end) is not int:
        raise TypeError("start and end must be whole numbers")
    return Mark(start, end, mark["verdict"])


def image_of(record: dict[str, Any]) -> int | str | None:
    """The image id or file name of a record; None where it has none that can be used."""
    image = record.get("image_id", record.get("image"))
    if isinstance(image, float) and image.is_integer():
        return int(image)
    if isinstance(image, str) and image.strip():
        number = whole_number(image)
        return number if number is not None and image == str(number) else image.strip()
    return image if isinstance(image, int) and not isinstance(image, bool) else None


def write_annotations(path: Path | str, items: Iterable[Annotated]) -> None:
    """Writes annotations, whole or not at all: brackets where the name ends in `.txt`, else JSON lines.

    Lines with brackets cannot say that a caption is not finished, so only finished ones go there.
    """
    path = Path(path)
    if path.suffix == ".txt":
        lines = [
            f"{item.image} ### {brackets.render(item.caption, item.marks)}" for item in items if item.done
        ]
        write_text(path, "".join(f"{line}\n" for line in lines))
    else:
        write_jsonl(path, (item.record() for item in items))
