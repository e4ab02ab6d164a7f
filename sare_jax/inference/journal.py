"""Answers on disk while they are being made: appended batch by batch; only whole batches count."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from absl import logging

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.records import journal
from sare_jax.schema import checked

Answer = dict[str, Any]


@dataclass(frozen=True)
class _Seal:
    """What a finished file is sealed with: the key of its call, and the hash of its content."""

    key: str
    sha256: str


class Journal:
    """The files of one `ask`.

    `out` is written once, when everything is there. Until then answers gather in `out`.partial, whose first
    line holds the key of the call. A hidden file beside `out` holds its key and the hash of its content.
    """

    def __init__(self, out: Path, key: str):
        """Touches nothing.

        Args:
          out: path of the JSON lines file that is written in the end.
          key: hash of everything that the answers depend on; files with another key are not used.
        """
        self._out = Path(out)
        self._key = key
        self._partial = self._out.with_name(f"{self._out.name}.partial")
        self._seal = self._out.with_name(f".{self._out.name}.key")

    def whole(self) -> list[dict[str, Any]] | None:
        """The records in `out`, if a call with this key wrote them and nobody has changed them since.

        Then what is left of unfinished answers is removed.
        """
        if not (self._out.is_file() and self._seal.exists()):
            return None
        try:
            seal = checked(files.read_json(self._seal), _Seal, str(self._seal))
            if seal.key != self._key:
                return None
            if seal.sha256 == files.hash_file(self._out):
                files.remove(self._partial)  # left where the call was killed after it sealed `out`
                return files.read_jsonl(self._out)
            raise UserError(f"{self._out}: changed since it was written")
        except UserError as error:
            logging.warning("%s; asked again", error)
            return None

    def resume(self, batches: Sequence[Sequence[int]]) -> dict[int, Answer]:
        """Answers of an interrupted call with this key; leaves the partial file with exactly those.

        Only whole batches count, so that every request is answered in the batch that it would have been in
        without the interruption.

        Args:
          batches: for each batch, the numbers of its requests.
        """
        known = self._read_partial()
        done = [index for batch in batches if all(i in known for i in batch) for index in batch]
        with files.replacing(self._partial) as draft:
            journal.Journal(draft).extend([{"key": self._key}, *_records(done, known)])
        self._lines = journal.Journal(self._partial)
        return {index: known[index] for index in done}

    def append(self, answers: dict[int, Answer]) -> None:
        """Adds one batch to the partial file."""
        self._lines.extend(_records(answers, answers))

    def finish(self, records: Iterable[dict[str, Any]]) -> None:
        """Writes `out`, seals it, and removes the partial file."""
        files.write_jsonl(self._out, records)
        files.write_json(self._seal, asdict(_Seal(self._key, files.hash_file(self._out))))
        files.remove(self._partial)

    def _read_partial(self) -> dict[int, Answer]:
        first, *records = list(journal.Journal(self._partial)) or [None]
        if first != {"key": self._key}:
            return {}
        return {record["index"]: record["answer"] for record in records}


def _records(indices: Iterable[int], answers: dict[int, Answer]) -> list[dict[str, Any]]:
    return [{"index": index, "answer": answers[index]} for index in indices]
