"""Captions and answers as people have them: read leniently, drop nothing without saying so."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.files import parse_json, read_lines
from sare_jax.records.coco import Truth

_SEPARATOR = " ### "
_SETTINGS = ("instruction", "prompt", "max_new_tokens", "num_beams", "model")
_MOST_VALUES = 10  # of a setting; what has more is no setting


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
    dropped = Dropped()
    return list(stream_records(path, dropped, text_key=text_key)), dropped


def stream_records(path: Path | str, dropped: Dropped, *, text_key: str = "caption") -> Iterator[dict]:
    """The records of `read_records`, one after the other; of JSON lines one alone is in memory.

    Args:
      path: as for `read_records`.
      dropped: gets what is left out, which is known at the end.
      text_key: as for `read_records`.

    Raises:
      UserError: as `read_records`, when the place in question is reached.
    """
    lines, head = read_lines(path), []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    lines, start = chain(head, lines), head[-1].lstrip() if head else ""
    records: Iterable[Any]
    if start.startswith("["):
        records = parse_json("".join(lines), path)
    elif start.startswith("{"):
        records = _json_lines(path, lines, dropped)
    else:
        records = _separated_lines(path, lines, text_key, dropped)
    empty = True
    for count, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise UserError(f"{path}: record {count} is no JSON object")
        empty = False
        yield record
    if empty:
        raise UserError(f"{path}: no record in it")


def _json_lines(path: Path | str, lines: Iterator[str], dropped: Dropped) -> Iterator[Any]:
    # Not splitlines(): JSON strings may hold U+2028 and its like unescaped.
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = parse_json(line.removesuffix("\n"), f"{path}:{number}")
        except UserError:
            if not _is_half(line, lines):
                raise
            dropped.add("half-written last line", f"line {number}")
            return
        yield record


def _separated_lines(
    path: Path | str, lines: Iterator[str], text_key: str, dropped: Dropped
) -> Iterator[dict]:
    is_first = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        image, separator, caption = line.removesuffix("\n").rstrip("\r").partition(_SEPARATOR)
        if not separator and not line.rstrip().endswith(_SEPARATOR.rstrip()):
            if not is_first and _is_half(line, lines):
                dropped.add("half-written last line", f"line {number}")
                return
            raise UserError(f"{path}:{number}: neither JSON nor `image{_SEPARATOR}text`")
        is_first = False
        yield {"image": image.removesuffix(_SEPARATOR.rstrip()).strip(), text_key: caption.strip()}


def _is_half(line: str, after: Iterable[str]) -> bool:
    """Whether a line is the last one with text, and its file does not end with a line's end."""
    for later in after:
        if later.strip():
            return False
        line = later
    return not line.endswith("\n")


def match_captions(records: Iterable[dict], truth: Truth, dropped: Dropped | None = None) -> Captions:
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
    dropped = Dropped({reason: list(places) for reason, places in (dropped or {}).items()})
    settings = Settings()
    matched = dict(stream_matches(settings.noted(records), truth, dropped))
    return Captions(list(matched), list(matched.values()), dropped, settings.named())


def stream_matches(records: Iterable[dict], truth: Truth, dropped: Dropped) -> Iterator[tuple[int, str]]:
    """Image id and text of each caption that `match_captions` keeps; none but the present one is in memory.

    Args:
      records: as for `match_captions`.
      truth: the images' annotations.
      dropped: what reading the records left out; at the end also gets what cannot be matched.

    Raises:
      UserError: as `match_captions`, at the end, when all that is to be named is known.
    """
    refused, repeated = Dropped(), Dropped()
    digests: dict[int, bytes] = {}
    unknown, clashing = [], []
    for number, record in enumerate(records, start=1):
        image = record.get("image_id", record.get("image"))
        text = record.get("caption", record.get("text"))
        if image is None or (isinstance(image, float) and not math.isfinite(image)):
            refused.add("no image id", f"record {number}")
        elif not isinstance(text, str):
            refused.add("caption is no text", image)
        elif (image_id := truth.resolve(image)) is None:
            unknown.append(image)
        elif image_id not in digests:
            digests[image_id] = _digest(text)
            yield image_id, text
        elif digests[image_id] == _digest(text):
            repeated.add("repeated", image)
        else:
            clashing.append(str(image))
    for reason, places in (*refused.items(), *repeated.items()):
        dropped.setdefault(reason, []).extend(places)
    truth.resolve_all(unknown)
    if clashing:
        raise UserError(f"more than one caption for image(s) {', '.join(clashing[:20])}; keep one each")
    if not digests:
        raise UserError(f"nothing left to score ({dropped.told()})")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


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


def settings_of(records: Iterable[dict]) -> dict[str, Any]:
    """Prompt, limits and model that records name: the value, or the list of values where they differ."""
    settings = Settings()
    for _ in settings.noted(records):
        pass
    return settings.named()


class Settings:
    """Gathers what `settings_of` says of records that pass by one after the other."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, None]] = {key: {} for key in _SETTINGS}

    def noted(self, records: Iterable[dict]) -> Iterator[dict]:
        """The same records; their settings are noted as they pass."""
        for record in records:
            for key, values in self._values.items():
                if record.get(key) is not None and len(values) <= _MOST_VALUES:
                    values[str(record[key])] = None
            yield record

    def named(self) -> dict[str, Any]:
        """The settings of the records that have passed; those of too many values are left out."""
        return {
            key: next(iter(values)) if len(values) == 1 else list(values)
            for key, values in self._values.items()
            if 0 < len(values) <= _MOST_VALUES
        }
