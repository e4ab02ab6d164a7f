"""From captions to units: which captions can be used, which objects they name, and where.

Every finished batch is kept on disk. Captions on which the extractor failed are given to it again in the next
run.
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
    """A caption with its units and their scores.

    Attributes:
      caption: text and image.
      units: the caption's distinct objects, in order.
      left_out: reason → number of mentions that became no unit.
      scores: float32[units], CLIP score of each unit's object; empty until scored, or if the caption is
        dropped.
      dropped: why the caption is not used; an empty string if it is.
      detail: the image's name and full error, if it could not be decoded.
      whole_image: whether the image was scored whole because it is smaller than a window.
    """

    caption: Caption
    units: list[Unit]
    left_out: Counter
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    dropped: str = ""
    detail: str = ""
    whole_image: bool = False


def extract(captions: Sequence[Caption], extractor: Extractor, scratch: Path) -> list[Scored]:
    """Extracts each caption's units; `scores` of the result are still empty.

    A caption is dropped if its text cannot be used (see `captions.unusable`), if the extractor failed
    (`extraction: ` and its reason), or if it names no object (`no object`).

    Args:
      captions: the captions, in the order of the result.
      extractor: finds the objects that a caption names.
      scratch: folder of the batches that earlier runs finished with these captions and this extractor.

    Raises:
      UserError: no caption names an object.
    """
    journal = _retry_failed(scratch / "objects.jsonl", captions, extractor)
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


def _retry_failed(path: Path, captions: Sequence[Caption], extractor: Extractor) -> Journal:
    """Opens the journal of extracted captions after retrying those on which the extractor failed.

    The new records, failed or not, take the place of the old ones in the file.
    """
    journal = Journal(path)
    records = [record for batch in journal for record in batch]
    failed = [i for i, record in enumerate(records) if record["failed"]]
    if not failed:
        return journal
    again = _records([captions[i].text for i in failed], extractor)
    for i, record in zip(failed, again, strict=True):
        records[i] = record
    with files.replacing(path) as draft:
        rewritten = Journal(draft)
        for start in range(0, len(records), _BATCH):
            rewritten.append(records[start : start + _BATCH])
    return Journal(path)


def _records(texts: Sequence[str], extractor: Extractor) -> list[dict]:
    """The journal's record of each caption; captions that cannot be used are not given to the extractor."""
    reasons = [unusable(text) for text in texts]
    results = iter(extractor.find([t for t, reason in zip(texts, reasons, strict=True) if not reason]))
    records: list[dict] = []
    for text, reason in zip(texts, reasons, strict=True):
        if reason:
            records.append({"units": [], "left_out": {}, "unusable": reason, "failed": ""})
            continue
        result = next(results)
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
    """Hash of all units; stored scores are used again only if it is the same."""
    return files.hash_value([[list(asdict(u).values()) for u in s.units] for s in scored])
