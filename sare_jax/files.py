"""Files that are either whole or absent: atomic writes, JSON lines, content hashes."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`; renames it to `path` when the block ends without an error.

    Works for files and for folders. An existing `path` stays as it was until the new one is whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    remove(draft)
    try:
        yield draft
        if draft.is_dir():
            remove(path)
        os.replace(draft, path)
    finally:
        remove(draft)


def remove(path: Path) -> None:
    """Removes a file or a folder; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, atomically."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically. NaN and infinity are errors, as JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
      UserError: the file is missing or is not JSON; names it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None


def write_jsonl(path: Path, records: Iterable[dict]) -> None:
    """Writes one JSON object a line, atomically."""
    with replacing(path) as draft, draft.open("w", encoding="utf-8") as stream:
        for record in records:
            stream.write(json_line(record))


def json_line(record: dict) -> str:
    """One record as a line of JSON, newline included."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def read_jsonl(path: Path) -> list[dict]:
    """Reads JSON lines; blank lines are skipped.

    Raises:
      UserError: the file is missing, or a line is no JSON object; names file and line.
    """
    records = []
    try:
        with Path(path).open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise UserError(f"{path}:{number}: expected a JSON object a line")
                records.append(record)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}:{len(records) + 1}: not valid JSON ({error})") from None
    return records


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON-able value in canonical form, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a folder's names and contents, in hex."""
    path = Path(path)
    if not path.is_dir():
        return hash_file(path)
    members = sorted(p for p in path.rglob("*") if p.is_file())
    return hash_value([[p.relative_to(path).as_posix(), hash_file(p)] for p in members])
