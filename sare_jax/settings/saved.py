"""The settings that a run left in its workdir, `config.json`, for commands that read a finished workdir.

What these commands look at is checked here; the rest is shown as it stands.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.schema import checked, read_object
from sare_jax.settings.names import can_name_a_file
from sare_jax.settings.report import ReportConfig


@dataclass(frozen=True)
class _Run:
    objective: str = ""
    rho: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class _Attack:
    kind: str = ""
    num_samples: int = 0


@dataclass(frozen=True)
class _Data:
    root: str | None = None
    annotations: str | None = None
    images: str | None = None
    max_pixels: int = 0


@dataclass(frozen=True)
class _Evaluate:
    metrics: str = ""
    benchmarks: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Saved:
    runs: dict[str, _Run] = field(default_factory=dict)
    run_labels: dict[str, str] = field(default_factory=dict)
    attacks: dict[str, _Attack] = field(default_factory=dict)
    data: _Data = _Data()
    evaluate: _Evaluate = _Evaluate()
    report: ReportConfig = field(default_factory=ReportConfig)


def read_saved(path: Path) -> dict[str, Any]:
    """Reads a workdir's `config.json`; keys may be missing.

    Raises:
      UserError: the file cannot be read, or a section or key of those above is of another type; names it.
    """
    config = read_object(path)
    checked(config, _Saved, str(path))
    attack = config.get("report", {}).get("matched_attack")
    for name in (*config.get("runs", {}), *config.get("attacks", {}), *([attack] if attack else [])):
        if not can_name_a_file(name):
            raise UserError(f"{path}: {name!r} names a run or an attack, but no file can be called so")
    return config
