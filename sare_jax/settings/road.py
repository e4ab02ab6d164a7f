"""Everything of one invocation."""

from dataclasses import dataclass

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
    """Everything of one invocation of `main.py`.

    Attributes:
      name: of the experiment; the default workdir is `runs/<name>`.
      stages: comma-separated stages to run, in the order of the road.
      runs: name → the optimizer settings of that unlearning run.
      run_labels: name → how tables call it.
      attacks: name → the settings of that attack.
    """

    name: str
    stages: tuple[str, ...]
    data: DataConfig
    model: ModelConfig
    caption: CaptionConfig
    decoding: DecodingConfig
    curate: CurateConfig
    evaluate: EvaluateConfig
    export: ExportConfig
    report: ReportConfig
    runs: dict[str, OptimConfig]
    run_labels: dict[str, str]
    attacks: dict[str, AttackConfig]
