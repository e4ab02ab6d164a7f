"""Stronger attacks on the demo's methods than its default ones.

    python main.py --config configs/demo_attacks.py:stronger   more attacks of each kind, on test images
    python main.py --config configs/demo_attacks.py:grid       relearning at several rates and sizes

Each attack meets the base model too. The best of the grid is chosen on validation images by one rule for all
methods: a method's worst case is the attack after which its CHAIR_S is highest. That attack's row on test
images is then what counts; `stronger` has all attacks of the grid.
"""

from typing import Any

from ml_collections import ConfigDict

from sare_jax.configs import demo_sare

RATES = (1, 2, 4)  # times the attack's learning rate
SIZES = (140, 0)  # units of D_neg; 0 is all
SPLITS = (0, 1, 2)  # seeds of the halves of categories
BITS = (8, 4)
# Beside the evaluation's and the adversarial one: those of EFUF's training samples and of its captions
# (protocols 1.1), and one that evaluations of CHAIR commonly use, which the demo's model has never seen.
PROMPTS = {
    "plain": "Please describe the image.",
    "brief": "Please describe the image in no more than 50 words. Make sure to be brief and concise.",
    "detail": "Please describe this image in detail.",
}


# On what the demo's model was trained on, at a size that fits it. `lora_frozen` leaves the projector, which
# holds all that was unlearnt, as it is.
LORA: dict[str, Any] = {
    "kind": "lora",
    "conversations": "lessons.json",
    "images": "lessons",
    "num_rows": 0,  # six of each scene
    "rank": 8,
    "alpha": 16.0,
    "learning_rate": 2e-3,
    "mapping_rate": 2e-4,
    "batch_rows": 16,
    "rows_at_once": 16,
}
SCENES = 240  # with lessons


def get_config(part: str = "stronger") -> ConfigDict:
    """Settings of one set of attacks.

    Args:
      part: `stronger` or `grid`.
    """
    parts = {"stronger": _stronger, "grid": _grid}
    if part not in parts:
        raise ValueError(f"configs/demo_attacks.py:{part}: the parts are {', '.join(parts)}")
    config = demo_sare.get_config()
    config.unlock()
    config.name = f"demo_attacks_{part}"
    config.stages = "prepare,caption,curate,unlearn,evaluate,attack,report"
    config.evaluate.metrics = "chair,pope,lengths"
    config.report.landscape_images = 0
    config.report.matched = False
    config.report.selection = ""
    parts[part](config)
    return config.lock()


def _stronger(config: ConfigDict) -> None:
    """Relearning at higher rates and with all samples, other splits, and attacks of other kinds."""
    config.data.prepare_args.lessons = SCENES
    config.attacks = ConfigDict(
        config.attacks.to_dict()
        | _relearnings(config)
        | {
            f"disjoint_{seed}_{half}": _disjoint(split_seed=seed, half=half)
            for seed in SPLITS
            for half in (0, 1)
            if (seed, half) != (0, 0)  # which is the demo's own relearn_disjoint
        }
        | {
            "benign_sent": {"kind": "benign", "data": "sent", "num_samples": 140},
            "benign_references": {"kind": "benign", "data": "references", "num_samples": 140},
        }
        | {"lora": LORA, "lora_frozen": {**LORA, "mapping_rate": 0.0}}
        | {f"int{bits}": {"kind": "rounding", "bits": bits} for bits in BITS}
        | {f"prompt_{name}": {"kind": "prompt", "prompt": prompt} for name, prompt in PROMPTS.items()}
        | {"worst_of_8": {"kind": "sampling", "draws": 8, "temperature": 1.0}}
    )
    config.masking.steps = 60
    config.masking.adamw.learning_rate = config.optim.adamw.learning_rate


def _grid(config: ConfigDict) -> None:
    """The small grid from which each method's worst case is taken."""
    config.evaluate.split = "val"
    config.attacks = ConfigDict(_relearnings(config))


def _relearnings(config: ConfigDict) -> dict[str, dict[str, Any]]:
    """All sizes at all rates."""
    usual = config.attack.adamw.learning_rate
    return {
        f"relearn_{size or 'all'}{'' if rate == 1 else f'_x{rate}'}": {
            "num_samples": size,
            "adamw": {"learning_rate": rate * usual},
        }
        for size in SIZES
        for rate in RATES
    }


def _disjoint(**settings: int) -> dict[str, Any]:
    return {"kind": "relearn_disjoint", "num_samples": 0, **settings}
