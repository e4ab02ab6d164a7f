"""Test images with the captions of every run, before and after the attack (the paper's Figs. 6 and 7)."""

import base64
import dataclasses
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

from PIL import Image

from sare_jax.data.images import MOST_PIXELS, ImageError, read_image
from sare_jax.evaluation.metrics import chair
from sare_jax.records.coco import Truth
from sare_jax.report.read import Inputs
from sare_jax.report.spec import ReportSpec

# Longest side of a shown image in pixels; a gallery is looked at, not measured.
SIDE = 440


@dataclass(frozen=True)
class Piece:
    """A part of a caption.

    Attributes:
      text: the part as it stands in the caption.
      kind: `hallucinated`, `grounded`, or empty.
      tip: shown on pointing at it.
      changed: whether its words do not stand so in the caption that this one is compared with.
    """

    text: str
    kind: str = ""
    tip: str = ""
    changed: bool = False


@dataclass(frozen=True)
class Caption:
    """One caption, cut at its object words.

    Attributes:
      pieces: the caption's parts in order; together they are its whole text.
      hallucinated, mentions: number of object words whose object is not in the picture, and of all object
        words; None if the picture has no annotations.
      words: number of words of the caption.
      cut: whether the caption ended at the token limit.
    """

    pieces: tuple[Piece, ...]
    hallucinated: int | None
    mentions: int | None
    words: int
    cut: bool

    @property
    def text(self) -> str:
        """The whole caption."""
        return "".join(piece.text for piece in self.pieces)


@dataclass(frozen=True)
class Exhibit:
    """One image with the captions of all runs.

    Attributes:
      image_id: COCO image id.
      source: the image as a data URI; empty if the file cannot be read.
      present: annotated categories of the picture, sorted; None without annotations.
      rows: run → setting → caption, in the order of the spec.
    """

    image_id: int
    source: str
    present: tuple[str, ...] | None
    rows: dict[str, dict[str, Caption]]


def exhibits(inputs: Inputs, spec: ReportSpec, truth: Truth | None, images: Path | None) -> list[Exhibit]:
    """Chooses the images and marks their captions; empty if the workdir holds no answers.

    Args:
      inputs: contents of the workdir; `answers` holds the captions.
      spec: number of images, and the runs to show.
      truth: COCO annotations, by which object words are marked; None marks nothing.
      images: folder of the image files; None shows captions without images.
    """
    by_image = _by_image(inputs)
    if not by_image:
        return []
    shared = set.intersection(*(set(records) for records in by_image.values()))
    first = by_image.get((spec.base, "origin")) or next(iter(by_image.values()))
    known = {i: categories for i in shared if (categories := _categories(truth, i)) is not None}
    chosen = choose({i: first[i]["text"] for i in shared}, known, spec.gallery_images)
    return exhibits_of(chosen, inputs, spec, truth, images)


def exhibits_of(
    chosen: Iterable[int], inputs: Inputs, spec: ReportSpec, truth: Truth | None, images: Path | None
) -> list[Exhibit]:
    """The exhibits of images that were chosen elsewhere; see `exhibits`."""
    by_image = _by_image(inputs)
    return [_exhibit(image_id, by_image, _categories(truth, image_id), spec, images) for image_id in chosen]


def _by_image(inputs: Inputs) -> dict[tuple[str, str], dict[int, dict]]:
    """(run, setting) → image id → its answer."""
    return {
        which: {record["image_id"]: record for record in records} for which, records in inputs.answers.items()
    }


def choose(captions: Mapping[int, str], categories: Mapping[int, Iterable[str]], count: int) -> list[int]:
    """Chooses up to `count` image ids by a rule that does not depend on any unlearned run.

    Candidates are the images whose caption by the base model hallucinates, and images without annotations.
    They are taken in the order of the SHA-256 of their id.

    Args:
      captions: image id → the base model's caption.
      categories: image id → annotated categories; images without annotations are absent.
      count: most ids to return.
    """

    def is_candidate(image_id: int) -> bool:
        known = categories.get(image_id)
        return known is None or any(
            m.hallucinated for m in chair.explain(captions[image_id], frozenset(known))
        )

    order = sorted(captions, key=lambda image_id: hashlib.sha256(str(image_id).encode()).hexdigest())
    return [image_id for image_id in order if is_candidate(image_id)][:count]


def _categories(truth: Truth | None, image_id: int) -> tuple[str, ...] | None:
    return tuple(sorted(truth.categories(image_id))) if truth and image_id in truth.instances else None


def _exhibit(
    image_id: int,
    by_image: dict[tuple[str, str], dict[int, dict]],
    present: tuple[str, ...] | None,
    spec: ReportSpec,
    images: Path | None,
) -> Exhibit:
    rows: dict[str, dict[str, Caption]] = {}
    name = ""
    first = by_image.get((spec.base, "origin"), {}).get(image_id)
    for run in spec.runs:
        against = first["text"] if first and run.key != spec.base else None
        for setting in ("origin", spec.headline_setting):
            record = by_image.get((run.key, setting), {}).get(image_id)
            if record:
                name = name or record.get("image", "")
                rows.setdefault(run.key, {})[setting] = mark(record, present, against)
                against = record["text"]
    source = image_uri(images, name, spec.max_pixels) if images and name else ""
    return Exhibit(image_id, source, present, rows)


def mark(record: dict, present: tuple[str, ...] | None, against: str | None = None) -> Caption:
    """Cuts a caption at its object words and marks each as in the picture or not.

    Args:
      record: one answer, with `text` and `finish_reason`.
      present: annotated categories of the picture; None marks nothing.
      against: the caption that it is compared with; None calls nothing changed.
    """
    text = record["text"]
    mentions = [] if present is None else chair.explain(text, frozenset(present))
    pieces: list[Piece] = []
    position = 0
    for mention in mentions:
        if mention.start > position:
            pieces.append(Piece(text[position : mention.start]))
        pieces.append(_piece(text[mention.start : mention.end], mention.category, mention.hallucinated))
        position = mention.end
    pieces.append(Piece(text[position:]))
    if against is not None:
        pieces = with_changes(pieces, against)
    return Caption(
        pieces=tuple(piece for piece in pieces if piece.text),
        hallucinated=None if present is None else sum(mention.hallucinated for mention in mentions),
        mentions=None if present is None else len(mentions),
        words=len(re.findall(r"\S+", text)),
        cut=record.get("finish_reason") == "length",
    )


def with_changes(pieces: Iterable[Piece], against: str) -> list[Piece]:
    """The pieces of a caption with those marked that hold words which another caption does not have there.

    Plain pieces are cut where changed words begin and end; an object's words stay together.
    """
    pieces = list(pieces)
    spans = _changed_spans(against, "".join(piece.text for piece in pieces))
    marked: list[Piece] = []
    start = 0
    for piece in pieces:
        end = start + len(piece.text)
        inside = [(max(low, start), min(high, end)) for low, high in spans if low < end and high > start]
        if piece.kind or not inside:
            marked.append(dataclasses.replace(piece, changed=bool(inside)))
        else:
            edges = sorted({start, end, *(edge for span in inside for edge in span)})
            marked += [
                Piece(piece.text[low - start : high - start], changed=(low, high) in inside)
                for low, high in pairwise(edges)
            ]
        start = end
    return marked


def _changed_spans(before: str, after: str) -> list[tuple[int, int]]:
    """(start, end) in characters of the runs of words of `after` that `before` does not have there."""
    words = list(re.finditer(r"\S+", after))
    matcher = SequenceMatcher(None, before.split(), [word[0] for word in words], autojunk=False)
    return [
        (words[low].start(), words[high - 1].end())
        for kind, _, _, low, high in matcher.get_opcodes()
        if kind != "equal" and high > low
    ]


def _piece(text: str, category: str, hallucinated: bool) -> Piece:
    if hallucinated:
        return Piece(text, "hallucinated", f"{category}: not in the picture")
    return Piece(text, "grounded", f"{category}: in the picture")


def image_uri(folder: Path, name: str, max_pixels: int = MOST_PIXELS) -> str:
    """A copy of an image of a folder, at most `SIDE` pixels a side, as a data URI; empty if it is refused."""
    try:
        image = read_image(folder, name, max_pixels)
    except ImageError:
        return ""
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
