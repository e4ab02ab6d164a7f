"""What somebody may have meant by a flag or key that there is not."""

import difflib
from collections.abc import Collection, Iterable

MEMBER = "NAME"
"""Stands in known keys for the name of a run or attack: `runs.NAME.rho`."""
_WITH_MEMBERS = ("runs", "attacks")
_MOST = 4


def suggestion(written: str, flags: Iterable[str], keys: Collection[str]) -> str:
    """A question with the flags that may have been meant; empty where nothing is like it.

    Args:
      written: what was written, without dashes and value: `rho`, `config.optim.roh`.
      flags: names of the flags that there are.
      keys: dotted keys of the settings, with `MEMBER` for names of runs and attacks.
    """
    key = written.removeprefix("config.")
    meant = _same_end(key, keys) if "." not in key else []
    if not meant and key == written:
        meant = difflib.get_close_matches(key, flags, n=1, cutoff=0.7)
        if meant:
            return f"did you mean --{meant[0]}?"
    meant = meant or _similar(key, keys) or _similar_end(key, keys)
    return f"did you mean {' or '.join(f'--config.{name}' for name in meant[:_MOST])}?" if meant else ""


def _same_end(key: str, keys: Collection[str]) -> list[str]:
    return [known for known in keys if known.rpartition(".")[2] == key]


def _similar(key: str, keys: Collection[str]) -> list[str]:
    """Keys of the same section that are spelt alike."""
    section, _, last = key.rpartition(".")
    first, *rest = section.split(".")
    named = first in _WITH_MEMBERS and rest
    general = ".".join([first, MEMBER, *rest[1:]]) if named else section
    ends = [known.removeprefix(f"{general}.") for known in keys if known.startswith(f"{general}.")]
    close = difflib.get_close_matches(last, ends, n=1)
    return [f"{section}.{end}" for end in close] if section else []


def _similar_end(key: str, keys: Collection[str]) -> list[str]:
    """Keys of any section whose last word is the same or spelt alike."""
    last = key.rpartition(".")[2]
    close = difflib.get_close_matches(last, {known.rpartition(".")[2] for known in keys}, n=1)
    return [known for known in keys if close and known.rpartition(".")[2] == close[0]]
