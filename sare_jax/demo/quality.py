"""Figures of the demo LLaVA on held-out images: CHAIR, recall, POPE, and how close the fill-in choice is.

    python -m sare_jax.demo.quality [--model FOLDER] [--images N]

Everything goes through transformers' own `generate`, greedily, so the figures hold for the folder as shipped.
"""

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from sare_jax import progress
from sare_jax.demo.prompts import ADVERSARIAL_PROMPT, EVALUATION_PROMPT, chat
from sare_jax.demo.train_llava import WEIGHTS
from sare_jax.demo.world import build
from sare_jax.evaluation.metrics import chair, pope_score
from sare_jax.progress.foreign import without_bars
from sare_jax.records import pope_lists
from sare_jax.records.coco import Truth, read_truth
from sare_jax.records.pope_lists import Kind

TARGETS = {"chair_s": (40, 70), "recall": (90, 100), "f1": (80, 100)}
_BATCH = 40
_CLAUSE_START = re.compile(r"(?:^|(?<=, )|(?<=\. )|(?<=and )|(?<=while ))(A|An|The|a|an|the)(?= (?!scene))")


class Speaker:
    """A LLaVA folder that answers by greedy decoding.

    Args:
      folder: LLaVA in Hugging Face format, with weights, tokenizer and image processor.
    """

    def __init__(self, folder: Path):
        self.processor = AutoProcessor.from_pretrained(folder)
        with without_bars():
            self.model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def answer(self, images: Sequence[Path], instructions: Sequence[str], name: str) -> list[str]:
        """The answers to instruction i about image i, stripped; `name` labels the progress bar."""
        texts = []
        with progress.bar(len(images), name, unit="answer") as bar:
            for start in range(0, len(images), _BATCH):
                part = slice(start, start + _BATCH)
                inputs = self._inputs(images[part], [chat(text) for text in instructions[part]])
                out = self.model.generate(**inputs, max_new_tokens=160, do_sample=False)
                new = out[:, inputs["input_ids"].shape[1] :]
                texts += self.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
                bar.update(len(new))
        return [text.strip() for text in texts]

    @torch.inference_mode()
    def next_token(self, images: Sequence[Path], texts: Sequence[str]) -> torch.Tensor:
        """Probabilities of the token that follows each text, float32[N, V]."""
        parts = []
        for start in range(0, len(images), _BATCH):
            inputs = self._inputs(images[start : start + _BATCH], texts[start : start + _BATCH])
            parts.append(self.model(**inputs, logits_to_keep=1).logits[:, -1].softmax(-1))
        return torch.cat(parts)

    def _inputs(self, images: Sequence[Path], texts: Sequence[str]) -> Any:
        pictures = [Image.open(path) for path in images]
        return self.processor(images=pictures, text=list(texts), padding=True, return_tensors="pt")


def measure(folder: Path, world: Path, split: str = "test") -> dict[str, Any]:
    """Measures a LLaVA folder on one split of a world made by `world.build`.

    Returns:
      JSON-able: `chair` and `adversarial` (`chair.score` of the descriptions under either prompt), `pope` by
      kind, `choices` (see `fill_in_choices`) and a few `captions`.
    """
    truth = read_truth(world / "annotations")
    ids = sorted(i for i, name in truth.files.items() if f"_{split}_" in name)
    speaker = Speaker(folder)
    paths = [world / "images" / truth.files[i] for i in ids]
    captions = _captions(speaker, ids, paths, EVALUATION_PROMPT, "descriptions")
    pressed = _captions(speaker, ids, paths, ADVERSARIAL_PROMPT, "under the adversarial prompt")
    return {
        "chair": _without_rows(chair.score(captions, truth)),
        "adversarial": _without_rows(chair.score(pressed, truth)),
        "pope": {kind: _pope(speaker, truth, world, ids, kind) for kind in pope_lists.KINDS},
        "choices": fill_in_choices(speaker, captions, truth, world),
        "captions": captions[:8],
    }


def _captions(
    speaker: Speaker, ids: list[int], paths: list[Path], prompt: str, name: str
) -> list[dict[str, Any]]:
    texts = speaker.answer(paths, [prompt] * len(paths), name)
    return [{"image_id": i, "caption": text} for i, text in zip(ids, texts, strict=True)]


def _pope(speaker: Speaker, truth: Truth, world: Path, ids: list[int], kind: Kind) -> dict[str, Any]:
    questions = pope_lists.build(truth, kind, num_images=len(ids) // 2, image_ids=ids)
    paths = [world / "images" / question["image"] for question in questions]
    texts = speaker.answer(paths, [question["text"] for question in questions], f"POPE {kind}")
    answers = [{"question_id": q["question_id"], "answer": a} for q, a in zip(questions, texts, strict=True)]
    return _without_rows(pope_score.score(questions, answers))


def _without_rows(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "per_image"}


def fill_in_choices(
    speaker: Speaker, captions: list[dict[str, Any]], truth: Truth, world: Path
) -> dict[str, Any]:
    """How sure the model was of an article (an object follows) or of "the" (a remark) where nothing was left.

    Looks at the model's own clauses that name an absent object, or that are remarks after the last object.

    Returns:
      For `hallucinated` and `harmless` clauses: their number, and mean and quantiles (5, 25, 50, 75, 95 %) of
      the probability of "the" divided by that of "the" and the articles together.
    """
    starts = [start for record in captions for start in _clause_starts(record, truth)]
    paths = [world / "images" / truth.files[start["image_id"]] for start in starts]
    texts = [f"{chat(EVALUATION_PROMPT)} {start['before']}".rstrip() for start in starts]
    probabilities = speaker.next_token(paths, texts).numpy()
    vocabulary = speaker.processor.tokenizer.convert_tokens_to_ids
    remark = probabilities[:, vocabulary(["▁the", "▁The"])].sum(1)
    thing = probabilities[:, vocabulary(["▁a", "▁an", "▁A", "▁An"])].sum(1)
    result: dict[str, Any] = {"other": float(np.mean(1 - remark - thing))}
    for name in ("hallucinated", "harmless"):
        chosen = np.array([start["name"] == name for start in starts])
        share = (remark / (remark + thing))[chosen]
        quantiles = np.quantile(share, (0.05, 0.25, 0.5, 0.75, 0.95)) if chosen.any() else []
        result[name] = {
            "n": int(chosen.sum()),
            "mean": float(share.mean()) if chosen.any() else float("nan"),
            "quantiles": [float(value) for value in quantiles],
        }
    return result


def _clause_starts(record: dict[str, Any], truth: Truth) -> list[dict[str, Any]]:
    """Starts of the clauses in which the model chose between an absent object and a remark."""
    text = record["caption"]
    starts: list[dict[str, Any]] = []
    absent = {
        item.start for item in chair.explain(text, truth.categories(record["image_id"])) if item.hallucinated
    }
    for match in _CLAUSE_START.finditer(text):
        base = {"image_id": record["image_id"], "before": text[: match.start()]}
        if match[1].lower() == "the":
            starts.append({**base, "name": "harmless"})
        elif match.end() + 1 in absent:
            starts.append({**base, "name": "hallucinated"})
    return starts


def report(result: dict[str, Any]) -> str:
    """The figures as text, beside the targets that they should meet."""
    scores, pressed, choices = result["chair"], result["adversarial"], result["choices"]
    lines = [
        f"{scores['n']} held-out images, {scores['mean_words']:.1f} words a caption",
        _against_target("CHAIR_S", scores["chair_s"], TARGETS["chair_s"]),
        f"{'CHAIR_I':20s} {scores['chair_i']:5.1f}",
        _against_target("object recall", scores["recall"], TARGETS["recall"]),
        *(
            _against_target(f"POPE {kind} F1", pope["f1"], TARGETS["f1"])
            for kind, pope in result["pope"].items()
        ),
        f"under the adversarial prompt: CHAIR_S {pressed['chair_s']:.1f}, CHAIR_I {pressed['chair_i']:.1f}, "
        f"recall {pressed['recall']:.1f}, {pressed['mean_words']:.1f} words",
        "probability of a harmless remark where nothing visible was left:",
    ]
    for name in ("hallucinated", "harmless"):
        part = choices[name]
        quantiles = " ".join(f"{value:.2f}" for value in part["quantiles"])
        lines.append(f"  {part['n']} {name} clauses: mean {part['mean']:.2f}, 5 25 50 75 95 %: {quantiles}")
    return "\n".join([*lines, "captions:", *(f"  {record['caption']}" for record in result["captions"])])


def _against_target(name: str, value: float, target: tuple[float, float]) -> str:
    low, high = target
    return f"{name:20s} {value:5.1f}   target {low}–{high}{'' if low <= value <= high else '   MISSED'}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--images", type=int, default=400)
    args = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder) / "world", train=0, val=0, test=args.images)
        print(report(measure(args.model, Path(folder) / "world")), flush=True)


if __name__ == "__main__":
    main()
