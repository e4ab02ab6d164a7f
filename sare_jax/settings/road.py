"""All settings of one invocation."""

from dataclasses import dataclass

from sare_jax.attacks.masking import Masking
from sare_jax.settings.attack import AttackConfig
from sare_jax.settings.caption import CaptionConfig
from sare_jax.settings.curate import CurateConfig
from sare_jax.settings.data import DataConfig
from sare_jax.settings.decoding import DecodingConfig
from sare_jax.settings.evaluate import EvaluateConfig
from sare_jax.settings.export import ExportConfig
from sare_jax.settings.log import LogConfig
from sare_jax.settings.model import ModelConfig
from sare_jax.settings.optim import OptimConfig
from sare_jax.settings.report import ReportConfig


@dataclass(frozen=True)
class Config:
    """All settings of one invocation of `main.py`."""

    name: str
    """Name of the experiment; the default workdir is `runs/<name>`."""
    stages: tuple[str, ...]
    """Stages to run, in the order of the road."""
    data: DataConfig
    """Where images and annotations lie, and how images are split."""
    model: ModelConfig
    """The model to unlearn."""
    caption: CaptionConfig
    """How training images are described."""
    decoding: DecodingConfig
    """How captions are decoded."""
    curate: CurateConfig
    """How captions become D_neg, D_pos and D_sent."""
    optim: OptimConfig
    """The settings that all runs share; `runs` overrides single keys."""
    evaluate: EvaluateConfig
    """How a model is measured."""
    masking: Masking
    """The control of the attacks: how fast each model learns something harmless."""
    export: ExportConfig
    """Which run is written as a Hugging Face folder."""
    report: ReportConfig
    """What the report shows."""
    log: LogConfig
    """Where training curves and metrics go besides the workdir's files."""
    runs: dict[str, OptimConfig]
    """Name → the optimizer settings of that unlearning run."""
    run_labels: dict[str, str]
    """Name of a run → its name in tables and figures."""
    attacks: dict[str, AttackConfig]
    """Name → the settings of that attack."""
