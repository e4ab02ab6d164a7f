"""Conversations about images, as LLaVA's training data holds them, and plain captions in the same form."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sare_jax.errors import UserError
from sare_jax.records.texts import read_records

IMAGE = "<image>"  # how a question names the image; where it stands is the prompt form's affair
_ASKS, _ANSWERS = ("human", "user"), ("gpt", "assistant")


@dataclass(frozen=True)
class Conversation:
    """One image and what is asked and answered about it.

    Attributes:
      image: file name, relative to the folder of images.
      turns: question and answer of each turn, in order; the question without the image.
    """

    image: str
    turns: tuple[tuple[str, str], ...]


class Read(NamedTuple):
    """The usable conversations of a file, in its order, and reason → number of those that were left out."""

    conversations: list[Conversation]
    left_out: dict[str, int]


def read_conversations(
    path: Path | str,
    turns: Literal["first", "all"],
    question: str,
    is_there: Callable[[str], bool],
) -> Read:
    """Reads `llava_v1_5_mix665k.json` and its like, or captions.

    A record has `image` and either `conversations`, a list of `{"from": "human" | "gpt", "value": text}` that
    begins with a question, or `caption` (or `text`), which is then the answer to `question`.

    Args:
      path: a JSON list, or JSON lines; or lines `image ### caption`.
      turns: the first question and answer of each conversation, or all.
      question: what captions answer.
      is_there: whether an image can be had.

    Raises:
      UserError: the file is missing or unreadable, a record has neither form, or none can be used.
    """
    records, dropped = read_records(path)
    if dropped:
        raise UserError(f"{path}: unusable records ({dropped.told()}); correct them or take them out")
    kept: list[Conversation] = []
    left_out: Counter[str] = Counter()
    for number, record in enumerate(records, start=1):
        where = f"{path}: record {number}"
        image = record.get("image")
        if image is None:
            left_out["no image"] += 1
            continue
        if not isinstance(image, str):
            raise UserError(f"{where}: image is {image!r}, need one file name")
        said = _turns(record, question, where)
        if not said:
            left_out["no answer"] += 1
        elif not is_there(image):
            left_out["image missing"] += 1
        else:
            kept.append(Conversation(image, said[:1] if turns == "first" else said))
    if not kept:
        what = ", ".join(f"{count} × {reason}" for reason, count in left_out.items())
        raise UserError(f"{path}: no record can be used ({what}); give the folder of its images")
    return Read(kept, dict(left_out))


def _turns(record: dict[str, Any], question: str, where: str) -> tuple[tuple[str, str], ...]:
    """Questions and answers; a question without an answer at the end is left out."""
    if "conversations" not in record:
        text = record.get("caption", record.get("text"))
        if not isinstance(text, str):
            raise UserError(f"{where}: has neither `conversations` nor a `caption`")
        return ((question, text.strip()),) if text.strip() else ()
    said = record["conversations"]
    if not isinstance(said, list) or not all(_is_said(part) for part in said):
        raise UserError(f"{where}: conversations need entries with `from` and `value`")
    speakers = [part["from"] for part in said]
    if any(speaker not in (_ANSWERS if place % 2 else _ASKS) for place, speaker in enumerate(speakers)):
        raise UserError(f"{where}: conversations go {' → '.join(speakers)}; need human → gpt → human → …")
    texts = [part["value"].replace(IMAGE, "").strip() for part in said]
    pairs = tuple(zip(texts[::2], texts[1::2], strict=False))
    return pairs if all(answer for _, answer in pairs) else ()


def _is_said(part: Any) -> bool:
    return isinstance(part, dict) and all(isinstance(part.get(key), str) for key in ("from", "value"))
