"""Workdirs with runs of several weights and seeds: captions of a chosen CHAIR_S and recall, scored by the
project's own metric."""

from pathlib import Path

from sare_jax import files
from sare_jax.evaluation.metrics import chair
from sare_jax.records.coco import Truth
from tests.report.workdirs import make_world

METHODS = {"efuf": "neg_weight", "robust": "objective_args.pos"}
WEIGHTS = {"efuf": (0.1, 0.2, 0.4), "robust": (3.0, 2.0, 1.0)}
SEEDS = (0, 1)
IMAGES = 60
# Images whose caption names all three objects, two of three at the others; captions that invent one, before
# and after the attack, by method and place of the weight.
SHAPES = {
    "efuf": ((58, 30, 58), (48, 20, 48), (30, 8, 34)),
    "robust": ((57, 20, 22), (46, 12, 14), (32, 6, 8)),
}
LABELS = {"efuf": "EFUF (Eq. 1)", "robust": "Robust"}


def make(folder: Path, *, attack_base: bool = True, methods=METHODS) -> Path:
    """A finished workdir of these runs."""
    truth = make_world(folder / "data", IMAGES, 0)
    runs, labels = {}, {}
    for method in methods:
        for place, weight in enumerate(WEIGHTS[method]):
            for seed in SEEDS:
                name = f"{method}_w{place}_s{seed}"
                runs[name] = _settings(method, weight, seed)
                labels[name] = f"{LABELS[method]}, weight {weight:g}, seed {seed}"
                full, before, after = SHAPES[method][place]
                _metrics(folder, truth, name, "origin", full, before, seed)
                _metrics(folder, truth, name, "relearn_140", full, after, seed)
    _metrics(folder, truth, "base", "origin", 60, 36, 0)
    if attack_base:
        _metrics(folder, truth, "base", "relearn_140", 60, 47, 0)
    report = {
        "baseline": "efuf",
        "ours": "robust",
        "matched_attack": "relearn_140",
        "frontier": {"methods": dict(methods), "recalls": "90,95"},
    }
    attacks = {"relearn_140": {"kind": "relearn", "num_samples": 140}}
    config = {"name": "f", "runs": runs, "run_labels": labels, "attacks": attacks, "report": report}
    files.write_json(folder / "config.json", config)
    return folder


def _settings(method: str, weight: float, seed: int) -> dict:
    weights = {"neg_weight": weight} if method == "efuf" else {"objective_args": {"pos": weight}}
    return {"objective": method, "seed": seed, "adamw": {"learning_rate": 1e-4}, **weights}


def _metrics(folder: Path, truth: Truth, run: str, setting: str, full: int, invented: int, seed: int) -> None:
    captions = []
    for place, image in enumerate(truth.image_ids):
        turned = (place + 11 * seed) % IMAGES
        objects = list(truth.instances[image])[: 3 if turned < full else 2]
        text = "".join(f"There is a {name}. " for name in objects)
        if (7 * turned) % IMAGES < invented:
            text += "There is also a zebra."
        captions.append({"image_id": image, "caption": text})
    files.write_json(
        folder / "metrics" / run / f"{setting}.json", {"chair": chair.score(captions, truth, draws=20)}
    )
