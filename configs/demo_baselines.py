"""The demo with the unlearning methods that the field compares with; what `sare_jax.reproduce` takes.

Beside the demo's attacks there is LoRA, as in the paper's Table 1; beside its metrics there are the exact
coverage of the pictures and the question sets of `sare_jax.demo.questions`.

    python main.py --config configs/demo_baselines.py
    python main.py --config configs/demo_baselines.py:search    the search for their weights, on validation

Each has four candidates and the demo's rule of choice, as the demo's own methods had (docs/demo_sweep.md):
the lowest CHAIR_S on validation images before any attack among the candidates that keep a recall of 90; where
none does, the one with the highest recall.
"""

from ml_collections import ConfigDict

from sare_jax.configs import demo_attacks, demo_sare
from sare_jax.configs.demo_sweep import on_validation
from sare_jax.demo.prompts import QUESTION_SETS

# GA has no other loss to be weighed against, and Adam divides its scale away, so its candidates are rates.
CANDIDATES: dict[str, tuple[float, ...]] = {
    "ga": (2.5e-5, 5e-5, 1e-4, 2e-4),
    "graddiff": (0.1, 0.2, 0.3, 0.4),
    "dpo": (0.0125, 0.025, 0.05, 0.1),
    "npo": (0.03, 0.06, 0.12, 0.25),
    "simnpo": (0.1, 0.2, 0.4, 0.8),
    "rmu": (0.1, 1.0, 4.0, 16.0),
}
CHOSEN = {"ga": 5e-5, "graddiff": 0.2, "dpo": 0.025, "npo": 0.03, "simnpo": 0.4, "rmu": 1.0}
SCENES = 60  # that the question sets ask about
LABELS = {"ga": "GA", "graddiff": "GradDiff", "dpo": "DPO", "npo": "NPO", "simnpo": "SimNPO", "rmu": "RMU"}


def get_config(variant: str = "full") -> ConfigDict:
    """Settings of the methods.

    Args:
      variant: `full`, or `search` for the candidates on validation images.
    """
    if variant not in ("full", "search"):
        raise ValueError(f"configs/demo_baselines.py:{variant}: the variants are full and search")
    if variant == "full":
        config = demo_sare.get_config()
        config.unlock()
        config.name = "demo_baselines"
        config.data.prepare_args.update({"lessons": demo_attacks.SCENES, "questions": SCENES})
        config.evaluate.metrics += ",sare_jax.demo.coverage:METRIC"
        config.evaluate.benchmarks.update(QUESTION_SETS)
        config.attacks.lora = ConfigDict(demo_attacks.LORA)
        config.runs.update({name: _run(name, value) for name, value in CHOSEN.items()})
        return config.lock()
    config = on_validation("demo_baselines_search")
    config.runs = ConfigDict(
        {
            f"{name}_{number}": _run(name, value)
            for name, values in CANDIDATES.items()
            for number, value in enumerate(values, start=1)
        }
    )
    config.report.update({"baseline": "graddiff_1", "ours": "npo_1"})
    config.attack, config.attacks = ConfigDict(), ConfigDict()
    return config.lock()


def _run(name: str, value: float) -> dict:
    """A method of open-unlearning (protocols 6); all but GA keep D_pos, and D_sent counts in none."""
    if name == "ga":
        run = {"objective": "ascent", "neg_weight": 1.0, "pos_weight": 0.0, "adamw": {"learning_rate": value}}
        told = f"rate {value:g}"
    else:
        run = {"objective": "ascent" if name == "graddiff" else name, "neg_weight": value}
        told = f"λ₁ {value:g}"
    if name == "dpo":
        run["packing"] = "unpacked"
    if name == "rmu":
        run["objective_args"] = {"layer": 2, "steering": 20.0}  # of the demo's three
    return {**run, "rho": 0.0, "sent_weight": 0.0, "label": f"{LABELS[name]}, {told}"}
