"""Methods of the demo as curves over their weight, with several seeds each: frontiers, not points.

    python main.py --config configs/demo_frontier.py          all methods, weights and seeds
    python main.py --config configs/demo_frontier.py:base     EFUF and `robust` alone, two seeds
    python main.py --config configs/demo_frontier.py:short    two weights of two methods, to see that it runs

Seeds vary the order of samples. Another base model is another workdir, for which the variant `base` is meant:

    python -m sare_jax.demo.train_llava --seed 1 --out runs/llava_1
    python main.py --config configs/demo_frontier.py:base --config.model.folder=runs/llava_1 \
      --workdir runs/frontier_1

Several workdirs are pooled by `python -m sare_jax.frontier runs/demo_frontier runs/frontier_1 --method
efuf=neg_weight --method robust=pos_weight`. What is finished is not run again, so the command goes on where
it stopped, and more weights or seeds cost only theirs.
"""

from typing import Any

from ml_collections import ConfigDict

from sare_jax.configs import demo_sare

SEEDS: tuple[int, ...] = (0, 1, 2, 3, 4)
# Method → the dotted key of its weight, and its values, from well above a recall of 93 to below 90. Each
# starts from the demo's run of its name, where the demo has one; the last is held against the others.
METHODS: dict[str, tuple[str, tuple[float, ...]]] = {
    "efuf": ("neg_weight", (0.05, 0.1, 0.15, 0.2, 0.3)),
    "sare": ("neg_weight", (0.05, 0.1, 0.15, 0.2, 0.3)),
    "unlikelihood_sam": ("neg_weight", (0.04, 0.06, 0.09, 0.13, 0.19)),
    "robust": ("pos_weight", (0.36, 0.42, 0.5, 0.6, 0.75)),
}


def get_config(variant: str = "full") -> ConfigDict:
    """Settings of the frontiers.

    Args:
      variant: `full`, `base` for a further base model, or `short` for a quick pass with figures that mean
        little.
    """
    if variant not in ("full", "base", "short"):
        raise ValueError(f"configs/demo_frontier.py:{variant}: the variants are full, base and short")
    config = demo_sare.get_config("short" if variant == "short" else "full")
    config.unlock()
    config.name = "demo_frontier" if variant == "full" else f"demo_frontier_{variant}"
    config.stages = "prepare,caption,curate,unlearn,evaluate,attack,report"
    config.evaluate.metrics = "chair,lengths"
    config.optim.checkpoint_every = 0
    attack = config.report.matched_attack
    config.attacks = ConfigDict({attack: config.attacks[attack].to_dict()})
    config.report.update({"landscape_images": 0, "matched": False, "gallery": 0, "selection": ""})
    methods, seeds = {name: METHODS[name] for name in METHODS if name in config.runs}, SEEDS
    if variant == "base":
        methods, seeds = {name: methods[name] for name in ("efuf", "robust")}, SEEDS[:2]
    elif variant == "short":
        methods = {name: (key, weights[::4]) for name, (key, weights) in list(methods.items())[:2]}
        seeds = SEEDS[:1]
    runs = config.runs.to_dict()
    config.runs = ConfigDict(
        {
            f"{method}_w{place}_s{seed}": _changed(runs[method], key, weight, seed)
            for method, (key, weights) in methods.items()
            for place, weight in enumerate(weights)
            for seed in seeds
        }
    )
    config.report.ours = list(methods)[-1]
    config.report.frontier.methods = ConfigDict({method: key for method, (key, _) in methods.items()})
    return config.lock()


def _changed(settings: dict[str, Any], key: str, weight: float, seed: int) -> dict[str, Any]:
    """A run's settings with another weight, at a dotted key, and seed."""
    label = f"{settings['label']}, {key.rpartition('.')[2]} {weight:g}, seed {seed}"
    return {**_with(settings, key.split("."), weight), "seed": seed, "label": label}


def _with(settings: dict[str, Any], keys: list[str], value: float) -> dict[str, Any]:
    first, *rest = keys
    return {**settings, first: _with(settings.get(first, {}), rest, value) if rest else value}
