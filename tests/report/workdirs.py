"""Makes a finished run's workdir from nothing: captions with a chosen rate of hallucination, measured by the
project's own metrics, and the other files in the form in which the stages write them."""

import math
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sare_jax import files
from sare_jax.evaluation.evaluate import measure
from sare_jax.evaluation.metrics import METRICS, perplexity, pope
from sare_jax.evaluation.metrics.metric import chosen
from sare_jax.records.coco import Truth, read_truth

SCENES = {
    "kitchen": ["oven", "sink", "bowl", "bottle", "refrigerator", "spoon"],
    "street": ["car", "bus", "bicycle", "traffic light", "person", "truck"],
    "park": ["dog", "bench", "bird", "kite", "person", "frisbee"],
}
CLOSINGS = ["The light is soft and even.", "The mood is calm.", "The wall behind is plain and bright."]

# Share of captions that get an invented object, by run and setting.
RATES = {
    ("base", "origin"): 0.62,
    ("base", "relearn_60"): 0.66,
    ("base", "relearn_100"): 0.70,
    ("base", "relearn_140"): 0.78,
    ("base", "adversarial"): 0.66,
    ("efuf", "origin"): 0.30,
    ("efuf", "relearn_60"): 0.38,
    ("efuf", "relearn_100"): 0.47,
    ("efuf", "relearn_140"): 0.55,
    ("efuf", "adversarial"): 0.41,
    ("sare", "origin"): 0.24,
    ("sare", "relearn_60"): 0.26,
    ("sare", "relearn_100"): 0.28,
    ("sare", "relearn_140"): 0.31,
    ("sare", "adversarial"): 0.30,
    ("unlikelihood", "origin"): 0.16,
    ("unlikelihood", "relearn_60"): 0.23,
    ("unlikelihood", "relearn_100"): 0.30,
    ("unlikelihood", "relearn_140"): 0.36,
    ("unlikelihood", "adversarial"): 0.26,
    ("unlikelihood_sam", "origin"): 0.12,
    ("unlikelihood_sam", "relearn_60"): 0.17,
    ("unlikelihood_sam", "relearn_100"): 0.22,
    ("unlikelihood_sam", "relearn_140"): 0.29,
    ("unlikelihood_sam", "adversarial"): 0.20,
}


def swapped(rates: dict = RATES, a: str = "efuf", b: str = "sare") -> dict:
    """The same rates with two runs in each other's place."""
    other = {a: b, b: a}
    return {(other.get(run, run), setting): rate for (run, setting), rate in rates.items()}


def make_workdir(
    folder: Path, *, rates: dict = RATES, images: int = 60, draws: int = 200, seed: int = 0
) -> Path:
    """Writes a whole workdir; equal arguments give equal files."""
    folder = Path(folder)
    truth = make_world(folder / "data", images, seed)
    for (run, setting), rate in rates.items():
        captions = _captions(truth, rate, random.Random(f"{seed} {run} {setting}"))
        answers = [
            {
                "id": image_id,
                "image_id": image_id,
                "image": truth.files[image_id],
                "text": text,
                "finish_reason": "stop" if image_id % 7 else "length",
            }
            for image_id, text in captions.items()
        ]
        files.write_jsonl(folder / "answers" / run / setting / "captions.jsonl", answers)
        files.write_json(
            folder / "metrics" / run / f"{setting}.json", _metrics(truth, answers, rate, draws, seed)
        )
    for run in ("efuf", "sare", "unlikelihood", "unlikelihood_sam"):
        files.write_jsonl(folder / "logs" / f"{run}.jsonl", _log(run, seed))
    files.write_json(folder / "landscape.json", _landscape())
    files.write_json(folder / "comparisons.json", _comparisons())
    files.write_json(folder / "selection.json", _selection())
    files.write_json(folder / "config.json", {"name": "made up", "optim": {"rho": 0.05, "neg_weight": 0.3}})
    files.write_json(folder / "curated" / "manifest.json", _manifest())
    return folder


def make_world(root: Path, images: int, seed: int) -> Truth:
    """Images and annotations in COCO 2014 format; returns what they say."""
    rng = random.Random(seed)
    names = sorted({name for objects in SCENES.values() for name in objects})
    records, annotations, captions = [], [], []
    (root / "images").mkdir(parents=True, exist_ok=True)
    for image_id in range(1, images + 1):
        objects = rng.sample(rng.choice(list(SCENES.values())), 3)
        records.append(
            {"id": image_id, "file_name": f"scene_{image_id:06d}.png", "width": 160, "height": 120}
        )
        _draw(root / "images" / f"scene_{image_id:06d}.png", rng)
        annotations += [
            {"id": 10 * image_id + i, "image_id": image_id, "category_id": names.index(name) + 1}
            for i, name in enumerate(objects)
        ]
        captions += [{"id": image_id, "image_id": image_id, "caption": f"A {objects[0]} and a {objects[1]}."}]
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    shared = {"images": records, "annotations": annotations, "categories": categories}
    files.write_json(root / "annotations" / "instances_test.json", shared)
    files.write_json(
        root / "annotations" / "captions_test.json", {"images": records, "annotations": captions}
    )
    return read_truth(root / "annotations")


def _draw(path: Path, rng: random.Random) -> None:
    image = Image.new("RGB", (160, 120), tuple(rng.randrange(150, 240) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        x, y = rng.randrange(130), rng.randrange(90)
        pen.ellipse((x, y, x + 28, y + 22), fill=tuple(rng.randrange(200) for _ in range(3)))
    image.save(path)


def _captions(truth: Truth, rate: float, rng: random.Random) -> dict[int, str]:
    found = {}
    for image_id in truth.image_ids:
        present = truth.instances[image_id]
        scene = next(objects for objects in SCENES.values() if set(present) <= set(objects))
        absent = [name for name in scene if name not in truth.categories(image_id)]
        parts = [f"The image shows a {present[0]} in the middle, next to a {present[1]}."]
        if random.Random(image_id).random() < 0.9:  # equal recall in all runs
            parts.append(f"A {present[2]} can be seen in the background.")
        parts.append(rng.choice(CLOSINGS))
        if rng.random() < rate and absent:
            parts.append(f"There is also a {rng.choice(absent)} on the left side.")
        found[image_id] = " ".join(parts)
    return found


def _metrics(truth: Truth, answers: list[dict], rate: float, draws: int, seed: int) -> dict:
    pope_images = len(answers) // 6
    kinds = {
        kind: pope.build(truth, kind, num_images=pope_images, seed=seed)
        for kind in ("random", "popular", "adversarial")
    }
    rng = random.Random(f"{seed} {rate}")
    asked = {
        kind: [
            q | {"text": q["label"] if rng.random() > rate / 4 else "yes"} for q in pope.requests(questions)
        ]
        for kind, questions in kinds.items()
    }
    length = np.full(len(answers), 40)
    nll = (2.2 + 0.4 * rate + np.random.default_rng(seed).normal(0, 0.1, len(answers))) * length
    ids = [answer["image_id"] for answer in answers]
    described = {"metric": "perplexity", "rule": "caption: the caption's tokens alone count"}
    metrics = chosen(METRICS, {"perplexity": {"lm": ""}})
    result = measure(answers, truth, metrics, answers={"pope": asked}, draws=draws)
    return result | {
        "perplexity": perplexity.summarise(nll, length, np.ones(len(answers)), ids, draws=draws) | described,
        "provenance": {"model": "tiny", "split": "test", "prompt": "Please describe this image."},
    }


def _log(run: str, seed: int) -> list[dict]:
    rng = np.random.default_rng([seed, *run.encode()])
    sharp = 0.5 if "sa" in run else 1.0
    return [
        {
            "step": step,
            "neg": -0.5 - 2.5 * (1 - math.exp(-step / 60)) + 0.1 * rng.normal(),
            "pos": 0.4 + 0.1 * math.exp(-step / 40) + 0.02 * rng.normal(),
            "sent": 0.3 + 0.05 * rng.normal(),
            "neg_perturbed": -0.3 - 2.3 * (1 - math.exp(-step / 60)) + 0.1 * rng.normal(),
            "neg_grad_norm": sharp * (1 + math.exp(-step / 50)) + 0.05 * rng.normal(),
            "eps_norm": 0.05,
            "cosine": 1 - 0.2 * sharp * (1 - math.exp(-step / 80)),
        }
        for step in range(1, 201)
    ]


def _landscape() -> dict:
    alphas = [round(-1 + 0.25 * i, 2) for i in range(9)]

    def scan(slope: float, bend: float) -> dict:
        return {
            "alpha": alphas,
            "loss": [3.0 - slope * a - bend * a * a for a in alphas],
            "chair_s": [28 + 9 * slope * max(a, -0.5) + 6 * bend * a * a for a in alphas],
            "chair_i": [12 + 3 * slope * a + 2 * bend * a * a for a in alphas],
        }

    runs = {
        "efuf": {"eps": scan(1.6, 0.3), "random": scan(0.1, 0.05)},
        "sare": {"eps": scan(0.7, 0.1), "random": scan(0.05, 0.02)},
    }
    return {"runs": runs, "rho": 0.5, "n_images": 60}


def _footing(name: str, gap: float) -> dict:
    return {"label": f"equal {name}", "unit": "points", "gap": gap, "bound": 1.0}


def _comparisons() -> list[dict]:
    found = []
    for name, note in (
        ("relearn_140", "final weights"),
        (
            "relearn_140, equal CHAIR_S",
            "efuf at step 120, sare at step 80; 0.5 apart on 60 validation images",
        ),
    ):
        for metric, difference, bounds in (
            ("chair.chair_s", -9.5, [-18.2, -1.5]),
            ("chair.chair_i", -3.1, [-6.0, 0.2]),
            ("chair.recall", 0.4, [-1.9, 2.8]),
        ):
            entry = {
                "name": name,
                "a": "efuf",
                "b": "sare",
                "metric": metric,
                "n": 60,
                "discordant": 21,
                "note": note,
            }
            if "equal" in name:
                entry |= {"footings": [_footing("CHAIR_S", 0.5)], "final": False}
                difference += 1.5
            found.append(entry | {"difference": difference, "interval": bounds})
    return found


def _selection() -> dict:
    return {
        "split": "val",
        "criterion": "least CHAIR_S with recall above 90 % of the base model's",
        "runs": {
            "efuf": {"tried": 6, "learning_rate": 1e-3, "neg_weight": 0.7, "rho": 0.0, "chair_s": 33.0},
            "sare": {"tried": 6, "learning_rate": 1e-3, "neg_weight": 0.7, "rho": 0.05, "chair_s": 29.5},
        },
    }


def _manifest() -> dict:
    return {
        "clip": {"model": "tiny/local"},
        "mode": "windows",
        "sentence_rule": "paper",
        "thresholds": {"t0": 31.2, "t1": 24.8, "t2": 29.1, "model": "tiny", "chosen": {"how": "quantiles"}},
        "counts": {
            "captions": 900,
            "captions_scored": 897,
            "objects": 5210,
            "phrases": 88,
            "neg": 640,
            "pos": 2600,
            "sent": 450,
        },
        "dropped": {
            "captions": {"no object": 2, "image missing": 1},
            "mentions": {"repeated mention": 310},
            "objects": {"between_t1_and_t0": 1970},
            "sentences": {"mean_not_above_t2": 447},
        },
        "scores": {
            "quantiles": [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0],
            "objects": [15.2, 21.0, 26.1, 30.4, 33.9, 38.0, 43.1],
            "captions": [22.0, 25.1, 27.6, 29.0, 30.6, 33.2, 36.0],
        },
        "audit": {
            "judged": 5000,
            "unjudged": 210,
            "hallucinated": 0.27,
            "auc": 0.871,
            "neg": {"judged": 630, "precision": 0.812, "recall": 0.38},
            "pos": {"judged": 2580, "precision": 0.968, "recall": 0.69},
        },
    }
