"""From captions to units: which captions can be used, which objects they name, and where.

Every finished batch is kept on the disk. What an extractor failed at is asked again by the next run.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from sare_jax import files
from sare_jax.curation.captions import Caption, told, unusable
from sare_jax.curation.extractor import Extractor
from sare_jax.curation.units import Unit, units_of
from sare_jax.errors import UserError
from sare_jax.progress import bar
from sare_jax.records.journal import Journal

_BATCH = 256


@dataclass
class Scored:
    """What became of a caption.

    Attributes:
      caption: the caption.
      units: its distinct objects.
      left_out: reason → mentions that are no unit.
      scores: float32[units]; empty where `dropped` says why.
      dropped: why the caption is not used; empty where it is.
      detail: the image error in full.
      whole_image: the image is smaller than a window, so the whole of it was scored.
    """

    caption: Caption
    units: list[Unit]
    left_out: Counter
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    dropped: str = ""
    detail: str = ""
    whole_image: bool = False


def extract(captions: Sequence[Caption], extractor: Extractor, scratch: Path) -> list[Scored]:
    """Finds each caption's units.

    A caption is dropped where its text cannot be used (see `captions.unusable`), where the extractor failed
    (`extraction: ` and its reason), or where nothing was found (`no object`).

    Args:
      captions: the captions.
      extractor: what finds objects.
      scratch: folder of the kept batches, for these captions and this extractor alone.

    Raises:
      UserError: no caption names an object.
    """
    journal = _asked_again(scratch / "objects.jsonl", captions, extractor)
    done = sum(map(len, journal))
    with bar(len(captions), "objects", done=done, unit="caption") as progress:
        for start in range(done, len(captions), _BATCH):
            batch = captions[start : start + _BATCH]
            journal.append(_records([c.text for c in batch], extractor))
            progress.update(len(batch))
    records = [record for batch in journal for record in batch]
    scored = [_from_record(c, r) for c, r in zip(captions, records, strict=True)]
    if all(s.dropped for s in scored):
        raise UserError(
            f"none of the {len(captions)} captions names an object "
            f"({told(Counter(s.dropped for s in scored))}), such as "
            f"{captions[0].text[:60]!r}; curation needs English descriptions of what is to be seen"
        )
    return scored


def _asked_again(path: Path, captions: Sequence[Caption], extractor: Extractor) -> Journal:
    """The journal, in which nothing is left that failed the last time and goes well this time."""
    journal = Journal(path)
    records = [record for batch in journal for record in batch]
    places = [i for i, record in enumerate(records) if record["failed"]]
    if not places:
        return journal
    again = _records([captions[i].text for i in places], extractor)
    for i, record in zip(places, again, strict=True):
        records[i] = record
    with files.replacing(path) as draft:
        rewritten = Journal(draft)
        for start in range(0, len(records), _BATCH):
            rewritten.append(records[start : start + _BATCH])
    return Journal(path)


def _records(texts: Sequence[str], extractor: Extractor) -> list[dict]:
    """What the journal keeps of each caption; one that cannot be used is shown to no extractor."""
    reasons = [unusable(text) for text in texts]
    found = iter(extractor.find([t for t, reason in zip(texts, reasons, strict=True) if not reason]))
    records: list[dict] = []
    for text, reason in zip(texts, reasons, strict=True):
        if reason:
            records.append({"units": [], "left_out": {}, "unusable": reason, "failed": ""})
            continue
        result = next(found)
        units, left_out = units_of(text, result.mentions)
        records.append(
            {
                "units": [list(asdict(unit).values()) for unit in units],
                "left_out": dict(left_out + result.left_out),
                "unusable": "",
                "failed": result.failed,
            }
        )
    return records


def _from_record(caption: Caption, record: dict) -> Scored:
    units = [Unit(*values) for values in record["units"]]
    reason = record["unusable"] or (f"extraction: {record['failed']}" if record["failed"] else "")
    return Scored(
        caption, units, Counter(record["left_out"]), dropped=reason or ("" if units else "no object")
    )


def hash_units(scored: Sequence[Scored]) -> str:
    """Hash of what is to be scored; kept scores of other units are not used."""
    return files.hash_value([[list(asdict(u).values()) for u in s.units] for s in scored])
