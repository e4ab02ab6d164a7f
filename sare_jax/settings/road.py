"""Everything of one invocation."""

from dataclasses import dataclass

from sare_jax.attacks.masking import Masking
from sare_jax.settings.attack import AttackConfig
from sare_jax.settings.caption import CaptionConfig
from sare_jax.settings.curate import CurateConfig
from sare_jax.settings.data import DataConfig
from sare_jax.settings.decoding import DecodingConfig
from sare_jax.settings.evaluate import EvaluateConfig
from sare_jax.settings.export import ExportConfig
from sare_jax.settings.model import ModelConfig
from sare_jax.settings.optim import OptimConfig
from sare_jax.settings.report import ReportConfig


@dataclass(frozen=True)
class Config:
    """Everything of one invocation of `main.py`."""

    name: str
    """Name of the experiment; the default workdir is `runs/<name>`."""
    stages: tuple[str, ...]
    """Stages to run, in the order of the road."""
    data: DataConfig
    """Where images and annotations lie."""
    model: ModelConfig
    """The model to unlearn."""
    caption: CaptionConfig
    """How training images are described."""
    decoding: DecodingConfig
    """How captions are decoded."""
    curate: CurateConfig
    """How captions become D_neg, D_pos and D_sent."""
    optim: OptimConfig
    """What runs share."""
    evaluate: EvaluateConfig
    """How a model is measured."""
    masking: Masking
    """The control of the attacks: how fast each model learns something harmless."""
    export: ExportConfig
    """What is handed on."""
    report: ReportConfig
    """What the report shows."""
    runs: dict[str, OptimConfig]
    """Name → the optimizer settings of that unlearning run."""
    run_labels: dict[str, str]
    """Name → how tables call it."""
    attacks: dict[str, AttackConfig]
    """Name → the settings of that attack."""
