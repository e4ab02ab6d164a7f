"""Text files as other people's programs write them: UTF-8, or Unicode with a byte order mark."""

import codecs
import json
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path | str) -> str:
    """Reads a text file; a byte order mark names its encoding and is left out.

    Raises:
      UserError: the file cannot be read, or is in no such encoding; names it and the byte.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8-sig")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not in UTF-8 (byte {error.start}); convert it, e.g. with iconv") from None


def read_json(path: Path | str) -> Any:
    """Reads a JSON file in any of these encodings.

    Raises:
      UserError: as `read_text`, or the text is not JSON; names the file.
    """
    return parse_json(path, read_text(path))


def parse_json(path: Path | str, text: str) -> Any:
    """Parses JSON text that came from a file.

    Raises:
      UserError: the text is not JSON; names the file.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
