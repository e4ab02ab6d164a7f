"""How a model is measured."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks import BENCHMARKS
from sare_jax.evaluation.metrics import METRICS
from sare_jax.settings.auto import Size
from sare_jax.settings.building import at_least

MOST_DRAWS = 1_000_000
"""Bootstrap resamples; many more would not fit into memory, and change no digit that is shown."""

# What the sections below hold is said by the metrics and benchmarks themselves. Their modules are imported
# when settings are made, and not before, since they import settings.


def _default_options() -> dict[str, dict]:
    from sare_jax.evaluation.metrics.metric import default_options

    return default_options()


@dataclass(frozen=True)
class EvaluateConfig:
    """How a model is measured (stages 4 and 5)."""

    RENAMED: ClassVar[dict[str, str]] = {
        "pope_images": "options.pope.images",
        "pope_prompt": "options.pope.prompt",
        "pope_batch_size": "question_batch_size",
        "lm": "options.perplexity.lm",
        "judge": "options.informativeness.judge",
        "judge_model": "options.informativeness.model",
        **{name: f"benchmarks.{name}" for name in ("mme", "gqa", "scienceqa", "qbench")},
    }

    #: Images that are used: `val` for choosing settings, `test` once at the end.
    split: Literal["val", "test"] = "test"
    #: Images whose captions by the base model are read for log-odds of present and absent objects, under all
    #: weights (`probes/<run>/<setting>.json`); 0 leaves it out.
    probe_images: int = 0
    #: The describing prompt (paper, Figs. 6–7).
    prompt: str = "Please describe the image in great detail. Your response should have at least 100 words."
    #: The most images; 0 takes the whole split.
    max_images: int = 0
    #: The most tokens of a caption.
    max_new_tokens: int = 200
    #: Number of captions generated together; `auto` is the largest that fits.
    batch_size: Size = 16
    #: What is measured, separated by commas: short names (`sare_jax.evaluation.metrics`) or `module:name`.
    metrics: str = ",".join(METRICS)
    #: Settings of the metrics that have any, by metric: `pope` (images, prompt), `perplexity` (lm),
    #: `informativeness` (judge, model); each metric's file says what they mean.
    options: dict[str, dict] = field(default_factory=_default_options)
    #: Number of questions, of POPE and the benchmarks, answered together; `auto` is the largest that fits.
    question_batch_size: Size = 64
    #: Bootstrap resamples behind the 95 % intervals; intervals of shares of captions and answers are exact.
    bootstrap: int = 1000
    #: Benchmark, by its short name (`sare_jax.evaluation.benchmarks`) or `module:name` → its file or folder
    #: as it is released, its images beside it; an empty path leaves it out. Where `data.prepare` makes the
    #: data, a relative path is taken from its folder.
    benchmarks: dict[str, str] = field(default_factory=lambda: dict.fromkeys(BENCHMARKS, ""))
    #: The benchmarks' official prompts, or EFUF's (`lineage`).
    benchmark_prompt: Literal["official", "lineage"] = "official"
    #: Number of questions asked of each benchmark, from its beginning (EFUF: 1,600); 0 asks all, as is always
    #: done of MME and HallusionBench.
    benchmark_first: int = 0

    def metric_names(self) -> list[str]:
        """The names in `metrics`."""
        return [name.strip() for name in self.metrics.split(",") if name.strip()]

    def check(self, where: str) -> None:
        """Raises `UserError` for values out of range, and for metrics, options and benchmarks not known."""
        from sare_jax.evaluation.benchmarks.benchmark import benchmarks_of
        from sare_jax.evaluation.metrics.metric import chosen

        for key in ("max_new_tokens", "batch_size", "question_batch_size", "bootstrap"):
            at_least(getattr(self, key), 1, f"{where}.{key}")
        if self.bootstrap > MOST_DRAWS:
            raise UserError(f"{where}.bootstrap: must be at most {MOST_DRAWS}, got {self.bootstrap}")
        for key in ("max_images", "probe_images", "benchmark_first"):
            at_least(getattr(self, key), 0, f"{where}.{key}")
        for name, path in self.benchmarks.items():
            _text(path, f"{where}.benchmarks.{name}")
        chosen(self.metric_names(), self.options, where)
        benchmarks_of(self.benchmarks, f"{where}.benchmarks")


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise UserError(f"{where}: expected str, got {value!r}")
