"""What the demo's LLaVA is taught about a scene: two descriptions and a few questions."""

from typing import Any

import numpy as np

from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.prompts import ADVERSARIAL_PROMPT, EVALUATION_PROMPT, STYLES, question
from sare_jax.demo.scenes import KINDS, Scene
from sare_jax.demo.writer import describe

QUESTIONS = 4
_FROM_SAME_KIND = 0.6  # share of absent objects asked about that belong to this kind of scene
_AFTER_ADVERSARIAL = 0.25  # share of questions that the adversarial prompt precedes
_NAMES = list(CATEGORIES)


def descriptions(scene: Scene, rng: np.random.Generator, boldness: float) -> list[tuple[str, str]]:
    """The answers to the evaluation's prompt and to another one (`boldness`: see `writer.describe`)."""
    others = [prompt for prompt in STYLES if prompt != EVALUATION_PROMPT]
    prompts = [EVALUATION_PROMPT, others[rng.integers(len(others))]]
    return [(prompt, describe(scene, rng, STYLES[prompt], boldness)) for prompt in prompts]


def questions(scene: Scene, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Questions about present and absent objects, half of each, some after the adversarial prompt."""
    asked = []
    for index in range(QUESTIONS):
        present = index % 2 == 0
        pool = sorted(scene.categories) if present else _absent(scene, rng)
        text = question(CATEGORIES[pool[rng.integers(len(pool))]].phrase)
        if rng.random() < _AFTER_ADVERSARIAL:
            text = f"{ADVERSARIAL_PROMPT} {text}"
        asked.append((text, "Yes." if present else "No."))
    return asked


def records(image: str, scene: Scene, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The scene's lessons in the form of LLaVA's training data, each a conversation of one turn."""
    lessons = descriptions(scene, rng, 1.0) + questions(scene, rng)
    return [
        {
            "id": f"{image}-{number}",
            "image": image,
            "conversations": [
                {"from": "human", "value": f"<image>\n{prompt}"},
                {"from": "gpt", "value": answer},
            ],
        }
        for number, (prompt, answer) in enumerate(lessons)
    ]


def _absent(scene: Scene, rng: np.random.Generator) -> list[str]:
    names = KINDS[scene.kind].weights if rng.random() < _FROM_SAME_KIND else _NAMES
    return [name for name in names if name not in scene.categories]
