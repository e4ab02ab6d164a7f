"""Captions and answers as people have them: read leniently, drop nothing without saying so."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.files import parse_json, read_text
from sare_jax.records.coco import Truth

_SEPARATOR = " ### "
_SETTINGS = ("instruction", "prompt", "max_new_tokens", "num_beams", "model")


class Dropped(dict[str, list[str]]):
    """What was left out: for each reason, where (a line or an id)."""

    def add(self, reason: str, where: Any) -> None:
        """Notes one record left out."""
        self.setdefault(reason, []).append(str(where))

    def told(self) -> str:
        """What was left out, in one line."""
        return ", ".join(f"{reason}: {len(all_)}" for reason, all_ in self.items()) or "no records"

    def summary(self) -> dict[str, dict[str, Any]]:
        """JSON-able: count, and the first 20 places, by reason."""
        return {reason: {"count": len(all_), "which": all_[:20]} for reason, all_ in self.items()}


@dataclass(frozen=True)
class Captions:
    """Captions that can be scored, one an image.

    Attributes:
      image_ids: ids in the truth.
      texts: the captions.
      dropped: records left out, by reason.
      settings: prompt, limits and model, where the records name them.
    """

    image_ids: list[int]
    texts: list[str]
    dropped: Dropped
    settings: dict[str, Any] = field(default_factory=dict)


def read_records(path: Path | str, *, text_key: str = "caption") -> tuple[list[dict], Dropped]:
    """Reads records from JSON lines, a JSON array, or lines `image ### text`.

    A half-written last line, as an interrupted run leaves it, is dropped and counted.

    Args:
      path: the file, in UTF-8 (or UTF-16 or UTF-32 with its mark).
      text_key: the key that the text of a ` ### ` line gets.

    Raises:
      UserError: no such file, no record in it, or a line that cannot be read; names file and line.
    """
    text = read_text(path)
    dropped = Dropped()
    if text.lstrip().startswith("["):
        records = parse_json(text, path)
    elif text.lstrip().startswith("{"):
        records = _json_lines(path, text, dropped)
    else:
        records = _separated_lines(path, text, text_key, dropped)
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise UserError(f"{path}: record {number} is no JSON object")
    if not records:
        raise UserError(f"{path}: no record in it")
    return records, dropped


def _json_lines(path: Path | str, text: str, dropped: Dropped) -> list[Any]:
    # Not splitlines(): JSON strings may hold U+2028 and its like unescaped.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    records = []
    for number, line in lines:
        try:
            records.append(parse_json(line, f"{path}:{number}"))
        except UserError:
            if number != lines[-1][0] or text.endswith("\n"):
                raise
            dropped.add("half-written last line", f"line {number}")
    return records


def _separated_lines(path: Path | str, text: str, text_key: str, dropped: Dropped) -> list[dict]:
    records: list[dict] = []
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for number, line in lines:
        image, separator, caption = line.rstrip("\r").partition(_SEPARATOR)
        if not separator and not line.rstrip().endswith(_SEPARATOR.rstrip()):
            if records and number == lines[-1][0] and not text.endswith("\n"):
                dropped.add("half-written last line", f"line {number}")
                continue
            raise UserError(f"{path}:{number}: neither JSON nor `image{_SEPARATOR}text`")
        records.append({"image": image.removesuffix(_SEPARATOR.rstrip()).strip(), text_key: caption.strip()})
    return records


def match_captions(records: list[dict], truth: Truth, dropped: Dropped | None = None) -> Captions:
    """Puts captions beside their images.

    The same caption for the same image twice counts once; two different ones are an error, since any choice
    between them would be silent.

    Args:
      records: dicts with `image_id` (or `image`, a file name) and `caption` (or `text`, as answers have it).
      truth: the images' annotations.
      dropped: what reading the file left out already.

    Raises:
      UserError: an unknown image, two captions of one image, or nothing left; names them.
    """
    dropped = Dropped(dropped or {})
    kept: list[tuple[Any, str]] = []
    for number, record in enumerate(records, start=1):
        image = record.get("image_id", record.get("image"))
        text = record.get("caption", record.get("text"))
        if image is None or (isinstance(image, float) and not math.isfinite(image)):
            dropped.add("no image id", f"record {number}")
        elif not isinstance(text, str):
            dropped.add("caption is no text", image)
        else:
            kept.append((image, text))
    texts: dict[int, str] = {}
    clashing = []
    for image_id, (image, text) in zip(truth.resolve_all(i for i, _ in kept), kept, strict=True):
        if image_id not in texts:
            texts[image_id] = text
        elif texts[image_id] == text:
            dropped.add("repeated", image)
        else:
            clashing.append(str(image))
    if clashing:
        raise UserError(f"more than one caption for image(s) {', '.join(clashing[:20])}; keep one each")
    if not texts:
        raise UserError(f"nothing left to score ({dropped.told()})")
    return Captions(list(texts), list(texts.values()), dropped, settings_of(records))


def named_captions(records: list[dict], dropped: Dropped) -> dict[Any, str]:
    """Captions by image, for metrics that need no ground truth; without an image, by their place in the file.

    Args:
      records: dicts with `caption` (or `text`) and mostly `image_id` or `image`.
      dropped: gets what cannot be used, by reason.

    Raises:
      UserError: two captions of one image, or nothing left; names them.
    """
    found: dict[Any, str] = {}
    clashing = []
    for number, record in enumerate(records, start=1):
        text = record.get("caption", record.get("text"))
        image = record.get("image_id", record.get("image"))
        if isinstance(image, bool) or not isinstance(image, int | str):
            image = f"record {number}"
        if not isinstance(text, str):
            dropped.add("caption is no text", image)
        elif image not in found:
            found[image] = text
        elif found[image] == text:
            dropped.add("repeated", image)
        else:
            clashing.append(str(image))
    if clashing:
        raise UserError(f"more than one caption for image(s) {', '.join(clashing[:20])}; keep one each")
    if not found:
        raise UserError(f"nothing left to score ({dropped.told()})")
    return found


def settings_of(records: list[dict]) -> dict[str, Any]:
    """Prompt, limits and model that records name: the value, or the list of values where they differ."""
    found: dict[str, Any] = {}
    for key in _SETTINGS:
        values = list(dict.fromkeys(str(record[key]) for record in records if record.get(key) is not None))
        if values and len(values) <= 10:
            found[key] = values[0] if len(values) == 1 else values
    return found
