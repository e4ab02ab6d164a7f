"""What a report is about: which runs and settings it shows, and which two runs it compares."""

import re
from dataclasses import dataclass

from sare_jax.data.images import MOST_PIXELS
from sare_jax.evaluation.benchmarks import BENCHMARKS
from sare_jax.evaluation.metrics import METRICS
from sare_jax.frontier.read import method_of

FLOOR = "floor"
"""Key of the model that never hallucinated, beside those of the runs."""


@dataclass(frozen=True)
class RunSpec:
    """One run.

    Attributes:
      key: name of its folder under `metrics/` and `answers/` and of its file under `logs/`.
      label: what tables and figures call it.
      description: one sentence that says what was done.
    """

    key: str
    label: str
    description: str = ""


@dataclass(frozen=True)
class SettingSpec:
    """One condition that every run is measured under.

    Attributes:
      key: file name, without `.json`, under `metrics/<run>/`.
      label: what tables call it.
      samples: relearning samples, the abscissa of the relearning curve; None where it is no relearning.
    """

    key: str
    label: str
    samples: int | None = None


RUNS = (
    RunSpec("base", "Base model", "The model before any unlearning."),
    RunSpec(
        "efuf",
        "EFUF",
        "Gradient ascent on hallucinated sub-sentences, with both retention losses (Eq. 1): SARE with ρ = 0.",
    ),
    RunSpec(
        "sare", "SARE", "The same losses with Targeted-SAM: the ascent gradient is taken at θ + ε* (Eq. 8)."
    ),
    RunSpec(
        "unlikelihood",
        "Unlikelihood",
        "L_neg = −log(1 − P(cur(o))) in place of ascent, which stops by itself; ρ = 0.",
    ),
    RunSpec(
        "unlikelihood_sam",
        "Unlikelihood + SAM",
        "The unlikelihood loss with its gradient taken at θ + ε*.",
    ),
)

SETTINGS = (
    SettingSpec("origin", "origin", 0),
    SettingSpec("relearn_60", "relearn 60", 60),
    SettingSpec("relearn_100", "relearn 100", 100),
    SettingSpec("relearn_140", "relearn 140", 140),
    SettingSpec("adversarial", "adversarial prompt"),
)


@dataclass(frozen=True)
class ReportSpec:
    """What a report shows, besides the contents of the workdir.

    Attributes:
      title: heading of the page.
      subject: one or two sentences on model and data.
      runs: the runs in table order, the base model first; it is drawn in grey.
      settings: the conditions, in table order.
      base: key of the model before unlearning.
      baseline, ours: keys of the two runs that the headline compares.
      pairs: further (without ρ, with ρ) pairs of keys that get a sentence of their own.
      headline_setting: key of the attack after which the headline compares the two runs.
      equal_recall, equal_words: runs are compared where these differ by no more before any attack.
      gallery_images: number of test images in the gallery.
      max_pixels: width times height of the largest image that it shows.
      metrics: names of the metrics that the tables show.
      benchmarks: names of the benchmarks that the tables show.
      floor: workdir of a model that never hallucinated; empty for none.
    """

    title: str = "Erasing hallucinations, and how well the erasure holds"
    subject: str = ""
    runs: tuple[RunSpec, ...] = RUNS
    settings: tuple[SettingSpec, ...] = SETTINGS
    base: str = "base"
    baseline: str = "efuf"
    ours: str = "sare"
    pairs: tuple[tuple[str, str], ...] = (("unlikelihood", "unlikelihood_sam"),)
    headline_setting: str = "relearn_140"
    equal_recall: float = 1.0
    equal_words: float = 1.0
    gallery_images: int = 8
    max_pixels: int = MOST_PIXELS
    metrics: tuple[str, ...] = tuple(METRICS)
    benchmarks: tuple[str, ...] = tuple(BENCHMARKS)
    floor: str = ""

    def run(self, key: str) -> RunSpec | None:
        """The run of that key, or None."""
        return next((run for run in self.runs if run.key == key), None)

    def setting(self, key: str) -> SettingSpec | None:
        """The condition of that key, or None."""
        return next((setting for setting in self.settings if setting.key == key), None)

    def label(self, key: str) -> str:
        """A run's label; the key itself if the spec has no such run."""
        run = self.run(key)
        return run.label if run else key


def spec_of(config: dict) -> ReportSpec:
    """Makes the spec of a run from its resolved `config.json`.

    Args:
      config: `runs`, `run_labels`, `attacks`, `evaluate` and `report` as in `sare_jax.config.to_dict`.
    """
    settings_of = config.get("runs") or {}
    labels = config.get("run_labels") or {}
    default, report = ReportSpec(), config.get("report") or {}
    measured = config.get("evaluate") or {}
    baseline, ours = report.get("baseline", default.baseline), report.get("ours", default.ours)
    runs = [RunSpec("base", labels.get("base", "base model"), RUNS[0].description)]
    # A ConfigDict comes back in the order of the alphabet, which is not the order in which to read.
    curves = (report.get("frontier") or {}).get("methods") or {}
    shown = _of_first_seed(settings_of, curves)
    order = sorted(shown, key=lambda key: (key != baseline, key != ours))
    runs += [RunSpec(key, labels.get(key, key), _described(key, settings_of[key])) for key in order]
    return ReportSpec(
        runs=tuple(runs) if settings_of else default.runs,
        settings=_settings(config.get("attacks") or {}),
        baseline=baseline,
        ours=ours,
        pairs=(() if curves else _pairs(settings_of, {baseline, ours})) if settings_of else default.pairs,
        headline_setting=report.get("matched_attack", default.headline_setting),
        equal_recall=report.get("equal_recall", default.equal_recall),
        equal_words=report.get("equal_words", default.equal_words),
        gallery_images=report.get("gallery", default.gallery_images),
        max_pixels=(config.get("data") or {}).get("max_pixels", default.max_pixels),
        metrics=_names(measured["metrics"]) if "metrics" in measured else default.metrics,
        benchmarks=tuple(dict.fromkeys([*default.benchmarks, *measured.get("benchmarks", ())])),
        floor=report.get("floor", default.floor),
    )


def _of_first_seed(runs: dict, methods: dict[str, str]) -> list[str]:
    """The runs that tables of single runs show: of a method with a frontier those of its lowest seed."""
    method = {key: method_of(key, methods) for key in runs}
    seed = {key: runs[key].get("seed", 0) for key in runs}
    lowest = {
        name: min(seed[key] for key in runs if method[key] == name) for name in set(method.values()) if name
    }
    return [key for key in runs if seed[key] == lowest.get(method[key] or "", seed[key])]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _described(key: str, settings: dict) -> str:
    """A run's description: a sentence if it is one of the paper's methods, then its main settings."""
    known = next((run.description for run in RUNS if run.key == key), "")
    names = (("objective", "objective"), ("rho", "ρ"), ("neg_weight", "λ₁"), ("sent_weight", "λ₂"))
    numbers = ", ".join(f"{name} {settings[key]}" for key, name in names if key in settings)
    return f"{known} Here: {numbers}." if known and numbers else known or numbers


def _settings(attacks: dict) -> tuple[SettingSpec, ...]:
    """Origin, the relearnings by size that differ in it alone, then the others."""
    settings = [SettingSpec("origin", "origin", 0)]
    relearning = [_but_for_size(attack) for attack in attacks.values() if attack.get("kind") == "relearn"]
    for name, attack in attacks.items():
        label = "adversarial prompt" if name == "adversarial" else name.replace("_", " ")
        on_curve = attack.get("kind") == "relearn" and _but_for_size(attack) == relearning[0]
        settings.append(SettingSpec(name, label, attack.get("num_samples") or None if on_curve else None))
    settings.sort(key=lambda setting: (setting.samples is None, setting.samples or 0, natural(setting.key)))
    return tuple(settings) if attacks else SETTINGS


def natural(name: str) -> tuple[str | tuple[int, str], ...]:
    """A key by which names sort with their numbers as numbers: `lora_60` before `lora_100`."""
    parts = re.split(r"0*([0-9]+)", name)  # every second one is a number; of two, the longer one is larger
    return tuple((len(part), part) if place % 2 else part for place, part in enumerate(parts))


def _but_for_size(attack: dict) -> dict:
    return {key: value for key, value in attack.items() if key not in ("num_samples", "runs")}


def _pairs(runs: dict, taken: set[str]) -> tuple[tuple[str, str], ...]:
    """(run without ρ, run with ρ) of each objective, except the runs in `taken`."""
    pairs = []
    for objective in dict.fromkeys(item.get("objective") for item in runs.values()):
        members = [
            key for key, item in runs.items() if item.get("objective") == objective and key not in taken
        ]
        without = [key for key in members if not runs[key].get("rho")]
        pairs += [(without[0], key) for key in members if without and runs[key].get("rho")]
    return tuple(pairs)
