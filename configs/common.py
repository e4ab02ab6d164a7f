"""The settings that every experiment starts from: the paper's, where it speaks."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from sare_jax import settings
from sare_jax.config import STAGES

SECTIONS = {
    "data": settings.DataConfig,
    "model": settings.ModelConfig,
    "caption": settings.CaptionConfig,
    "decoding": settings.DecodingConfig,
    "curate": settings.CurateConfig,
    "optim": settings.OptimConfig,
    "attack": settings.AttackConfig,
    "evaluate": settings.EvaluateConfig,
    "export": settings.ExportConfig,
    "report": settings.ReportConfig,
}


def base_config(name: str) -> ConfigDict:
    """A ConfigDict with every section at its defaults, the paper's two methods and its attacks."""
    config = ConfigDict({section: _defaults(kind) for section, kind in SECTIONS.items()})
    config.name = name
    config.stages = ",".join(STAGES)
    config.runs = ConfigDict({"efuf": {"label": "EFUF (Eq. 1)", "rho": 0.0}, "sare": {"label": "SARE"}})
    config.attacks = ConfigDict(
        {
            "relearn_60": {"num_samples": 60},
            "relearn_100": {"num_samples": 100},
            "relearn_140": {"num_samples": 140},
            "adversarial": {"kind": "prompt"},
        }
    )
    return config


def _defaults(kind: type) -> ConfigDict:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        values[field.name] = field.default
        if field.default_factory is not dataclasses.MISSING:  # keys may be `module:name`
            values[field.name] = ConfigDict(field.default_factory(), allow_dotted_keys=True)
    return ConfigDict(values)
