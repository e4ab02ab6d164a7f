"""The demo with the unlearning methods that the field compares with; what `sare_jax.reproduce` takes.

    python main.py --config configs/demo_baselines.py
    python main.py --config configs/demo_baselines.py:search    the search for their weights, on validation

Each has four candidates and the demo's rule of choice, as the demo's own methods had (docs/demo_sweep.md):
the lowest CHAIR_S on validation images before any attack among the candidates that keep a recall of 90; where
none does, the one with the highest recall.
"""

from ml_collections import ConfigDict

from sare_jax.configs import demo_sare
from sare_jax.configs.demo_sweep import on_validation

WEIGHTS = {
    "ga": (0.05, 0.1, 0.2, 0.4),
    "graddiff": (0.1, 0.2, 0.3, 0.4),
    "dpo": (0.1, 0.2, 0.4, 0.8),
    "npo": (0.03, 0.06, 0.12, 0.25),
    "simnpo": (0.1, 0.2, 0.4, 0.8),
}
CHOSEN = {"ga": 0.1, "graddiff": 0.2, "dpo": 0.2, "npo": 0.06, "simnpo": 0.2}


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
        config.runs.update({name: _run(name, weight) for name, weight in CHOSEN.items()})
        return config.lock()
    config = on_validation("demo_baselines_search")
    config.runs = ConfigDict(
        {
            f"{name}_{number}": _run(name, weight)
            for name, weights in WEIGHTS.items()
            for number, weight in enumerate(weights, start=1)
        }
    )
    config.report.update({"baseline": "graddiff_1", "ours": "npo_1"})
    config.attack, config.attacks = ConfigDict(), ConfigDict()
    return config.lock()


def _run(name: str, weight: float) -> dict:
    """A method of open-unlearning at a weight; GA has no retention, the others keep D_pos alone."""
    objective = "ascent" if name in ("ga", "graddiff") else name
    run = {"objective": objective, "rho": 0.0, "neg_weight": weight, "sent_weight": 0.0}
    if name == "ga":
        run["pos_weight"] = 0.0
    if name == "dpo":
        run["packing"] = "unpacked"
    labels = {"ga": "GA", "graddiff": "GradDiff", "dpo": "DPO", "npo": "NPO", "simnpo": "SimNPO"}
    return {**run, "label": f"{labels[name]}, λ₁ {weight:g}"}
