"""Reads and writes EFUF's training files, `pos_neg.json` and `sentences.json` (protocols 1.4, 1.5).

Each record of `pos_neg.json` is an object: image, the caption up to the end of the object's sub-sentence (its
piece), the character at which the piece starts, and the object's score. Each record of `sentences.json` is a
caption: image, text, and the mean and least score of its objects. EFUF applies its thresholds when it trains,
so its files also hold objects and captions that no set takes; `read_efuf` applies the thresholds. The files
do not hold the names of the objects, so the text of the piece is used as the name.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import asdict
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from sare_jax import files
from sare_jax.curation.captions import id_of_name, told
from sare_jax.curation.select import PAPER, Rule, Thresholds
from sare_jax.errors import UserError
from sare_jax.records.curated import Curated, Rows, Sentences, Units, read_curated

POS_NEG, SENTENCES = "pos_neg.json", "sentences.json"


def read_efuf(
    folder: Path,
    *,
    thresholds: Thresholds = PAPER,
    rule: Rule = "efuf",
    training: Collection[str] | None = None,
) -> Curated:
    """Makes the curated sets from EFUF's files; records that cannot be used are counted in the manifest.

    The text of a `pos_neg.json` record is only the beginning of a caption. Its unit is put into the row of
    the whole caption if `sentences.json` holds that, otherwise into the row of the longest beginning that
    `pos_neg.json` holds. So all units of a caption share one row.

    Args:
      folder: holds `pos_neg.json` and `sentences.json`.
      thresholds: T0, T1 and T2; all comparisons are strict.
      rule: which captions D_sent takes, see `select`.
      training: file names of the training images; records of other images are left out. None takes all.

    Raises:
      UserError: a file is missing or is no JSON list, or no negative unit is left; names the file and the
        reasons.
    """
    folder = Path(folder)
    dropped: dict[str, Counter[str]] = {POS_NEG: Counter(), SENTENCES: Counter()}
    pieces = _usable_records(folder / POS_NEG, _piece, dropped[POS_NEG], training)
    sentences = _usable_records(folder / SENTENCES, _sentence, dropped[SENTENCES], training)
    texts = _Texts([record[:2] for record in sentences], [record[:2] for record in pieces])
    neg = [piece for piece in pieces if piece[3] < thresholds.t1]
    pos = [piece for piece in pieces if piece[3] > thresholds.t0]
    sent = [
        row for row in sentences if row[2] > thresholds.t2 and (rule == "paper" or row[3] > thresholds.t1)
    ]
    if not neg:
        raise UserError(
            f"{folder / POS_NEG}: D_neg is empty: no usable row scores below t1 = {thresholds.t1:g} "
            f"(left out: {told(dropped[POS_NEG])}); raise curate.thresholds.t1"
        )
    used = sorted({texts.row(image, text) for image, text, *_ in neg + pos + sent})
    place = {row: index for index, row in enumerate(used)}
    return Curated(
        rows=texts.as_rows(used),
        neg=_units(neg, texts, place),
        pos=_units(pos, texts, place),
        sent=Sentences(
            row=np.array([place[texts.row(image, text)] for image, text, *_ in sent], np.int32),
            score=np.array([mean for *_, mean, _ in sent], np.float32),
            score_min=np.array([least for *_, least in sent], np.float32),
        ),
        manifest={
            "source": {"efuf": {name: files.hash_file(folder / name) for name in (POS_NEG, SENTENCES)}},
            "objects": "not in the files; the piece stands for the object",
            "sentence_rule": rule,
            "thresholds": asdict(thresholds),
            "counts": {
                "objects": len(pieces),
                "captions": len(sentences),
                "neg": len(neg),
                "pos": len(pos),
                "sent": len(sent),
            },
            "dropped": {
                "records": {
                    f"{name}: {reason}": number
                    for name, reasons in dropped.items()
                    for reason, number in reasons.items()
                },
                "objects": +Counter(between_t1_and_t0=len(pieces) - len(neg) - len(pos)),
                "sentences": +Counter(not_reliable=len(sentences) - len(sent)),
            },
        },
    )


def write_efuf(curated: Path, folder: Path) -> dict[str, int]:
    """Writes the units and captions of a curated folder as EFUF's two files.

    A curated folder holds only what its thresholds took. EFUF applies its own thresholds (23, 32, and 27.5
    with a least score of 23) to the files.

    Args:
      curated: folder as `sare_jax.records.curated` reads it.
      folder: folder to write the files into.

    Returns:
      File name → number of records.

    Raises:
      UserError: the curated folder cannot be read.
    """
    sets = read_curated(curated)
    rows = sets.rows
    units = [(unit, i) for unit in (sets.neg, sets.pos) for i in range(len(unit))]
    units.sort(
        key=lambda pair: (pair[0].row[pair[1]], pair[0].start[pair[1]], pair[0].mention_start[pair[1]])
    )
    pos_neg = [
        {
            "image": str(rows.image[unit.row[i]]),
            "sentence": str(rows.caption[unit.row[i]])[: unit.end[i]],
            "position": int(unit.start[i]),
            "score": float(unit.score[i]),
        }
        for unit, i in units
    ]
    sentences = [
        {
            "image": str(rows.image[row]),
            "sentence": str(rows.caption[row]),
            "mean": float(mean),
            "min": float(least),
        }
        for row, mean, least in zip(sets.sent.row, sets.sent.score, sets.sent.score_min, strict=True)
    ]
    files.write_json(Path(folder) / POS_NEG, pos_neg)
    files.write_json(Path(folder) / SENTENCES, sentences)
    return {POS_NEG: len(pos_neg), SENTENCES: len(sentences)}


class _Texts:
    """Distinct captions, or the longest known beginnings of them, each with a row number.

    In sorted order all texts of an image that begin alike stand together, so none is looked for among all.
    """

    def __init__(self, wholes: list[tuple[str, str]], beginnings: list[tuple[str, str]]):
        """Numbers the texts.

        Args:
          wholes: image and text of each caption.
          beginnings: image and text of each beginning of a caption. It gets a row of its own unless a caption
            or another beginning starts with it.
        """
        captions = dict.fromkeys(wholes)
        ordered = sorted({*captions, *beginnings})
        covered = {this for this, after in pairwise(ordered) if _begins(this, after)}.union(captions)
        longest = sorted(beginnings, key=lambda beginning: -len(beginning[1]))
        self._all = [*captions, *dict.fromkeys(text for text in longest if text not in covered)]
        self._row = {text: row for row, text in enumerate(self._all)}
        self._sorted = sorted(self._all)

    def row(self, image: str, text: str) -> int:
        """Row number of a caption, or of the first text of this image that starts with it."""
        wanted = (image, text)
        if wanted not in self._row:
            behind = map(
                self._sorted.__getitem__, range(bisect_left(self._sorted, wanted), len(self._sorted))
            )
            self._row[wanted] = min(self._row[t] for t in takewhile(lambda t: _begins(wanted, t), behind))
        return self._row[wanted]

    def as_rows(self, used: list[int]) -> Rows:
        images = [self._all[row][0] for row in used]
        numbered: dict[str, int] = {}
        ids = []
        for image in images:
            image_id = id_of_name(image)
            ids.append(numbered.setdefault(image, -1 - len(numbered)) if image_id is None else image_id)
        return Rows(
            np.array(images, np.str_),
            np.array(ids, np.int64),
            np.array([self._all[row][1] for row in used], np.str_),
        )


def _begins(beginning: tuple[str, str], whole: tuple[str, str]) -> bool:
    """Whether a text, given with its image, is the beginning of another one of the same image."""
    return beginning[0] == whole[0] and whole[1].startswith(beginning[1])


def _units(pieces: list[tuple], texts: _Texts, place: dict[int, int]) -> Units:
    spans = []
    for image, text, start, score in pieces:
        name = text[start:].strip()
        mention = start + text[start:].index(name)
        row = place[texts.row(image, text)]
        spans.append((row, start, len(text), name.lower(), mention, mention + len(name), score))
    rows, starts, ends, names, firsts, lasts, scores = zip(*spans, strict=True) if spans else ((),) * 7
    return Units(
        row=np.array(rows, np.int32),
        start=np.array(starts, np.int32),
        end=np.array(ends, np.int32),
        object=np.array(names, np.str_),
        mention_start=np.array(firsts, np.int32),
        mention_end=np.array(lasts, np.int32),
        score=np.array(scores, np.float32),
    )


def _usable_records(
    path: Path,
    read: Callable[[dict[str, Any]], tuple | str],
    dropped: Counter,
    training: Collection[str] | None,
) -> list[tuple]:
    """The usable records of a file, as `read` returns them; the others are counted in `dropped` by reason."""
    content = files.read_json(path)
    if not isinstance(content, list):
        raise UserError(f"{path}: expected a JSON list of rows, as EFUF writes it")
    usable = []
    for record in content:
        result = read(record) if isinstance(record, dict) else "no row"
        if isinstance(result, str):
            dropped[result] += 1
        elif training is not None and result[0] not in training:
            dropped["image not for training"] += 1
        else:
            usable.append(result)
    if not usable:
        raise UserError(f"{path}: no row can be used ({told(dropped)})")
    return usable


def _piece(record: dict[str, Any]) -> tuple[str, str, int, float] | str:
    """(image, text up to the piece's end, the piece's start, score), or why the record cannot be used."""
    image, text, start, score = (record.get(key) for key in ("image", "sentence", "position", "score"))
    if not isinstance(image, str) or not isinstance(text, str):
        return "image or sentence is no text"
    if type(start) is not int or start < 0:
        return "position is no whole number"
    if not text[start:].strip():
        return "position beyond the sentence"
    return (image, text, start, float(score)) if _is_number(score) else "score is no number"


def _sentence(record: dict[str, Any]) -> tuple[str, str, float, float] | str:
    """(image, caption, mean score, least score), or why the record cannot be used."""
    image, text, mean, least = (record.get(key) for key in ("image", "sentence", "mean", "min"))
    if not isinstance(image, str) or not isinstance(text, str) or not text.strip():
        return "image or sentence is no text"
    if not (_is_number(mean) and _is_number(least)):
        return "score is no number"
    return image, text, float(mean), float(least)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
