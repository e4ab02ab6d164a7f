"""What a workdir holds, by value: two runs that agree give equal dictionaries."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from sare_jax import files
from sare_jax.programs import FOLDER
from sare_jax.training.checkpoints import saved_hash, steps_in

# What may differ between two sound runs: clocks, the memo of hashes, which goes by files' times, and compiled
# programs, which hold addresses.
_CLOCKS = {"seconds", "time", "written", "started", "finished", "cpu_seconds"}
_SKIPPED = ("records", ".lock", ".image_contents.json", FOLDER)


def values(workdir: Path) -> dict[str, str]:
    """File or checkpoint, relative to the workdir → a hash of its values.

    Records are left out, since they hold clocks; pages are compared without what names the workdir.
    """
    found = {}
    checkpoints = workdir / "checkpoints"
    for path in sorted(workdir.rglob("*")):
        name = path.relative_to(workdir)
        if path.is_dir() or name.parts[0] in _SKIPPED or checkpoints in path.parents:
            continue
        found[str(name)] = _value(path, workdir)
    for run in sorted(checkpoints.iterdir()) if checkpoints.is_dir() else []:
        found[f"checkpoints/{run.name}"] = f"{steps_in(run)} {saved_hash(run, steps_in(run)[-1])}"
    return found


def _value(path: Path, workdir: Path) -> str:
    if path.suffix == ".json":
        return files.hash_value(_without_clocks(files.read_json(path)))
    if path.suffix == ".jsonl":
        return files.hash_value(_without_clocks(files.read_jsonl(path)))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return files.hash_value({name: _hash(arrays[name]) for name in arrays.files})
    content = path.read_bytes()
    if path.suffix in (".html", ".md"):
        content = re.sub(rb"\d+(\.\d+)? (s|min|h)\b", b"", content.replace(str(workdir).encode(), b""))
    return hashlib.sha256(content).hexdigest()


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clocks(inner) for key, inner in value.items() if key not in _CLOCKS}
    return [_without_clocks(inner) for inner in value] if isinstance(value, list) else value


def _hash(array: np.ndarray) -> str:
    content = repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + content).hexdigest()
