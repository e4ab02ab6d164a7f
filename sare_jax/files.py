"""Files that are either whole or absent, JSON whoever wrote it, and content hashes."""

import codecs
import hashlib
import io
import itertools
import json
import os
import platform
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sare_jax import disk
from sare_jax.errors import UserError
from sare_jax.unwritable import WriteError, writing

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_MOST_DIGITS = 300  # of a whole number; what is longer is beyond every float too

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_DRAFT = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-\d+\.draft")
_FORGOTTEN = 24 * 3600  # seconds after which nobody on another machine is still writing a draft
_number = itertools.count()
_swept: set[Path] = set()
_sweeping = threading.Lock()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`; renames it to `path` when the block ends without an error.

    Works for files and for folders. An existing `path` stays as it was until the new one is whole. The
    temporary name is this call's own, so that others may write the same `path` meanwhile; the last one wins.

    Raises:
      WriteError: the disk is full, or cannot be written to.
    """
    path = Path(path)
    with writing(path):
        disk.make_folder(path.parent)
        _sweep(path.parent)
        draft = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{next(_number)}.draft")
        try:
            yield draft
            settle(draft, path)
        except WriteError as error:  # of a file in the draft, which is about to be removed
            raise WriteError(str(error).replace(str(draft), str(path))) from error
        finally:
            remove(draft)


def settle(draft: Path, path: Path) -> None:
    """Gives a finished file or folder its final name, the one place where something becomes final.

    What it holds is on the disk before, and its name after, so that a power cut leaves it whole or absent.
    Inside of a draft nothing is final yet; that is brought to the disk with the draft.

    Raises:
      WriteError: the disk is full, or cannot be written to.
    """
    is_final = not any(_DRAFT.fullmatch(folder.name) for folder in path.parents)
    with writing(path):
        if is_final:
            disk.sync(draft)
        if draft.is_dir():
            remove(path)
        os.replace(draft, path)
        if is_final:
            disk.sync_names(path.parent)


def _sweep(folder: Path) -> None:
    """Removes what killed processes left of their drafts, once a folder and process."""
    with _sweeping:
        if folder in _swept:
            return
        _swept.add(folder)
        for path in folder.iterdir():
            draft = _DRAFT.fullmatch(path.name)
            if draft and _is_left(path, *draft.groups()):
                remove(path)


def _is_left(path: Path, host: str, pid: str) -> bool:
    """Whether the process that wrote a draft is gone; of other machines, that is told by its age."""
    if host == _HOST:
        return int(pid) == os.getpid() or not is_running(int(pid))
    try:
        return time.time() - path.stat().st_mtime > _FORGOTTEN
    except FileNotFoundError:
        return False


def is_running(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def remove(path: Path) -> None:
    """Removes a file or a folder; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    r"""Writes `text` as UTF-8, atomically; halves of characters, as names of files have them, as `\udcff`."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically. NaN and infinity are errors, as JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, records: Iterable[dict]) -> None:
    """Writes one JSON object a line, atomically."""
    with replacing(path) as draft, draft.open("w", encoding="utf-8", errors="backslashreplace") as stream:
        for record in records:
            stream.write(json_line(record))


def json_line(record: dict) -> str:
    """One record as a line of JSON, newline included."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def read_text(path: Path | str) -> str:
    """Reads a text file in UTF-8, or in the Unicode encoding that its byte order mark names.

    Raises:
      UserError: the file cannot be read, or is in no such encoding; names it and the byte.
    """
    return _decoded(_content(path), path)


def read_lines(path: Path | str) -> Iterator[str]:
    r"""Lines of a text file in any of these encodings, one by one; `\n` alone ends a line, and stays there.

    Raises:
      UserError: as `read_text`.
    """
    with _opened(path) as stream:
        if any(stream.peek(4).startswith(mark) for mark, _ in _MARKS):
            yield from io.StringIO(_decoded(stream.read(), path), newline="\n")
            return
        position = 0
        for line in stream:
            yield _decoded(line, path, position)
            position += len(line)


def read_json(path: Path | str) -> Any:
    """Reads a JSON file in any of these encodings.

    Raises:
      UserError: as `read_text` and `parse_json`; names the file.
    """
    return parse_json(_content(path), path)


def parse_json(
    text: str | bytes, where: Path | str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    r"""The value of a JSON text: the one place where JSON that somebody else wrote is parsed.

    Halves of characters (`\ud83d` alone), which JSON can spell and no file can hold, become U+FFFD.

    Args:
      text: the text, or its bytes in any encoding of `read_text`.
      where: file, or file and line, for errors.
      pairs: makes an object of its keys and values, in the place of a dictionary.

    Raises:
      UserError: the text is not JSON, or nothing that a program can hold: nested too deeply, or numbers of
        hundreds of digits.
    """
    text = _decoded(text, where) if isinstance(text, bytes) else text
    try:
        value = json.loads(text, parse_int=_whole_number, object_pairs_hook=pairs)
        return _mended(value) if _HALF_CHARACTER.search(text) else value
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON ({error})") from None
    except (RecursionError, MemoryError):
        raise UserError(f"{where}: not valid JSON (nested too deeply)") from None


def read_jsonl(path: Path | str) -> list[dict]:
    """Reads JSON lines; blank lines are skipped.

    Raises:
      UserError: the file cannot be read, or a line is no JSON object; names file and line.
    """
    records = []
    with _opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            record = parse_json(line, f"{path}:{number}")
            if not isinstance(record, dict):
                raise UserError(f"{path}:{number}: expected a JSON object a line")
            records.append(record)
    return records


@contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    try:
        with Path(path).open("rb") as stream:
            yield stream
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:  # a name that no file can have
        raise UserError(f"{path}: cannot be read ({error})") from None


def _content(path: Path | str) -> bytes:
    with _opened(path) as stream:
        return stream.read()


def _decoded(content: bytes, where: Path | str, position: int = 0) -> str:
    """The text of some bytes, which stand at `position` of their file."""
    encoding = "utf-8"
    if not position:
        encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8-sig")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        at = position + error.start
        raise UserError(f"{where}: not in UTF-8 (byte {at}); convert it, e.g. with iconv") from None


def _whole_number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _mended(value: Any) -> Any:
    """Without halves of characters."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list | tuple):
        return type(value)(_mended(item) for item in value)
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sealed(value: dict) -> dict:
    """A JSON-able object with a checksum of what stands in it, for `read_sealed`."""
    value = json.loads(json.dumps(value))
    return value | {"sha256": hash_value(value)}


def read_sealed(path: Path) -> dict:
    """Reads an object that was written as `sealed` gives it.

    Raises:
      UserError: the file cannot be read, or anything in it is other than it was written; names it.
    """
    value = read_json(path)
    seal = value.pop("sha256", None) if isinstance(value, dict) else None
    if seal is None or seal != hash_value(value):
        raise UserError(f"{path}: changed since it was written")
    return value


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON-able value in canonical form, in hex."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a folder's names and contents, in hex."""
    path = Path(path)
    if not path.is_dir():
        return hash_file(path)
    members = sorted(p for p in path.rglob("*") if p.is_file())
    return hash_value([[p.relative_to(path).as_posix(), hash_file(p)] for p in members])
