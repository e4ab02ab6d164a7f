"""The settings' sections: typed, frozen, with their defaults, which are the paper's (A.3) where it speaks.

`sare_jax.config` makes them from a `ConfigDict` and checks them. Those of `optim` and of the whole `road` are
not here: they bring JAX with them, and curation runs without it.
"""

from sare_jax.settings.attack import AttackConfig
from sare_jax.settings.caption import CAPTION_PROMPTS, CaptionConfig
from sare_jax.settings.curate import (
    AuditThresholds,
    CurateConfig,
    FixedThresholds,
    QuantileThresholds,
)
from sare_jax.settings.data import DataConfig
from sare_jax.settings.decoding import GREEDY, DecodingConfig
from sare_jax.settings.evaluate import EvaluateConfig
from sare_jax.settings.export import ExportConfig
from sare_jax.settings.log import LogConfig
from sare_jax.settings.model import ModelConfig
from sare_jax.settings.report import ReportConfig

__all__ = [
    "CAPTION_PROMPTS",
    "GREEDY",
    "AttackConfig",
    "AuditThresholds",
    "CaptionConfig",
    "CurateConfig",
    "DataConfig",
    "DecodingConfig",
    "EvaluateConfig",
    "ExportConfig",
    "FixedThresholds",
    "LogConfig",
    "ModelConfig",
    "QuantileThresholds",
    "ReportConfig",
]
