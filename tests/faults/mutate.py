"""Damage of files, and small, seeded changes of valid JSON, for every reader."""

import contextlib
import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    10**299,
    "",
    "x",
    "1",
    "n" * 6000,
    "9" * 5000,
    "a\nb\x1b[2J\u202e",
    "a\0b",
    "../x",
    [],
    [1],
    [[]],
    {},
    {"a": 1},
)
TEXTS = (
    b"",
    b"\xff\xfe",
    b"\x00",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"9" * 5000,
    b"null",
    b"[]",
    b"{}",
    b"3",
    b'"x"',
    b"NaN",
    b"[1e999]",
    b'{"\\ud83d": "\\udc00"}',
)


def flip(path: Path) -> None:
    """One byte in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def junk(path: Path) -> None:
    path.write_bytes(b"\xff\xfe[1]\n" * 3)


DAMAGES = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "flipped": flip,
    "junk": junk,
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
}


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value with every key or index in it."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def mutants(value: Any, count: int, seed: int) -> Iterator[bytes]:
    """JSON texts: at one or two places another value, infinity, a key less, more or doubled."""
    rng = random.Random(seed)
    for _ in range(count):
        changed = copy.deepcopy(value)
        for _ in range(rng.choice((1, 1, 2))):
            there = list(places(changed))
            if not there:
                break
            holder, key = rng.choice(there)
            kind = rng.randrange(8)
            if kind == 0:
                del holder[key]
            elif kind == 1 and isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            elif kind == 2 and isinstance(holder, dict):
                holder[rng.choice(("x", "n" * 3000, "1", ""))] = holder.pop(key)
            elif kind == 3:
                holder[key] = rng.choice((float("inf"), float("nan"), -float("inf")))
            else:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
        text = json.dumps(changed).encode()
        if rng.random() < 0.1:
            text = text[: rng.randrange(len(text) + 1)]
        elif rng.random() < 0.05:
            text = text.replace(b"1", b"9" * rng.choice((25, 400, 5000)), 1)
        yield text


def hostile(path: Path, value: Any, count: int, seed: int, *, lines: bool = False) -> Iterator[bytes]:
    """Writes one hostile content after the other to `path`, and gives each."""
    for content in (*TEXTS, *mutants(value, count, seed)):
        if lines and content.startswith(b"[{"):
            with contextlib.suppress(ValueError, RecursionError):
                content = b"".join(json.dumps(record).encode() + b"\n" for record in json.loads(content))
        path.write_bytes(content)
        yield content
