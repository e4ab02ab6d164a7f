"""How the demo's settings were chosen, on validation images; results and conclusions: docs/demo_sweep.md.

    python main.py --config configs/demo_sweep.py:attack   the attack, fixed on EFUF before SARE is run
    python main.py --config configs/demo_sweep.py:search   four candidates for each method
    python main.py --config configs/demo_sweep.py:seeds    the chosen settings under three seeds
    python main.py --config configs/demo_sweep.py:rho      ρ and λ₁ around the chosen settings

Rule of choice, the same for all methods: the lowest CHAIR_S on validation images before any attack among the
candidates that keep a recall of 90.
"""

from ml_collections import ConfigDict

from sare_jax.configs import demo_sare

ATTACK_RATES = (2.5e-5, 5e-5, 1e-4, 2e-4)
CANDIDATES = {
    "efuf": [{"neg_weight": weight} for weight in (0.1, 0.2, 0.3, 0.4)],
    "sare": [{"neg_weight": weight, "rho": rho} for weight in (0.2, 0.3) for rho in (0.05, 0.2)],
    "unlikelihood": [{"neg_weight": weight} for weight in (0.1, 0.15, 0.2, 0.3)],
    "unlikelihood_sam": [{"neg_weight": w, "rho": rho} for w in (0.1, 0.15) for rho in (0.05, 0.2)],
}
RHOS = (0.02, 0.1, 0.4)
SEEDS = (0, 1, 2)


def get_config(part: str = "seeds") -> ConfigDict:
    """Settings of one part of the search.

    Args:
      part: `attack`, `search`, `seeds` or `rho`.
    """
    parts = {"attack": _attack, "search": _search, "seeds": _seeds, "rho": _rho}
    if part not in parts:
        raise ValueError(f"configs/demo_sweep.py:{part}: the parts are {', '.join(parts)}")
    config = on_validation(f"demo_sweep_{part}")
    parts[part](config)
    return config.lock()


def on_validation(name: str) -> ConfigDict:
    """The demo's settings for a search: validation images, few metrics, the strongest relearning alone.

    Args:
      name: of the search, and of its runs' folder.
    """
    config = demo_sare.get_config()
    config.unlock()
    config.name = name
    config.stages = "prepare,caption,curate,unlearn,evaluate,attack,report"
    config.evaluate.split = "val"
    config.evaluate.metrics = "chair,bleu,lengths"
    config.report.landscape_images = 0
    config.report.matched = False
    config.report.gallery = 0
    config.report.selection = ""
    config.attacks = ConfigDict({"relearn_140": {"num_samples": 140}})
    config.optim.checkpoint_every = 0
    return config


def _attack(config: ConfigDict) -> None:
    """EFUF alone, relearned at several rates."""
    config.runs = ConfigDict({"efuf": config.runs.efuf.to_dict()})
    config.attacks = ConfigDict(
        {
            f"relearn_140_lr_{_key(rate)}": {"num_samples": 140, "adamw": {"learning_rate": rate}}
            for rate in ATTACK_RATES
        }
    )
    config.report.matched_attack = next(iter(config.attacks))


def _search(config: ConfigDict) -> None:
    """Every method's candidates."""
    runs = config.runs.to_dict()
    config.runs = ConfigDict(
        {
            f"{name}_{number}": _changed(runs[name], **changes)
            for name, candidates in CANDIDATES.items()
            for number, changes in enumerate(candidates, start=1)
        }
    )


def _seeds(config: ConfigDict) -> None:
    """The chosen settings, the order of samples anew."""
    config.runs = ConfigDict(
        {
            f"{name}_s{seed}": _changed(settings, seed=seed)
            for name, settings in config.runs.to_dict().items()
            for seed in SEEDS
        }
    )


def _rho(config: ConfigDict) -> None:
    """The two methods with Targeted-SAM at several radii."""
    config.runs = ConfigDict(
        {
            f"{name}_rho_{_key(rho)}": _changed(settings, rho=rho)
            for name, settings in config.runs.to_dict().items()
            if settings["rho"]
            for rho in RHOS
        }
    )


def _key(value: float) -> str:
    """A number as part of a key, which must not hold a dot."""
    return f"{value:g}".replace(".", "p")


def _changed(settings: dict, **changes: float) -> dict:
    values = ", ".join(f"{key} {value:g}" for key, value in changes.items())
    return {**settings, **changes, "label": f"{settings['label']}, {values}"}
