"""Control against masking: how fast each model learns something harmless.

A model whose gradients were made small gives nothing back under an attack, and learns nothing else either.
So each run, and the base model, learns one neutral sentence about all images for some steps; what is compared
is the loss as it falls. Nothing is asked of these weights, and they are not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sare_jax.attacks.benign import with_captions
from sare_jax.attacks.finetune import finetune
from sare_jax.attacks.interface import Tools
from sare_jax.errors import UserError
from sare_jax.optim import AdamW
from sare_jax.settings.building import at_least

if TYPE_CHECKING:
    from sare_jax.training.state import Params

LEAST_GAIN = 1.0
"""Nats a token that the base model should gain; a shorter run says little about speed."""


@dataclass(frozen=True)
class Masking:
    """What is learnt, and for how long."""

    steps: int = 0
    """Optimizer steps; 0 leaves the control out."""
    text: str = "The sum of one and two is three, and the sum of three and four is seven."
    """What is learnt as the description of every image; it should name no object."""
    adamw: AdamW = AdamW(weight_decay=0.0)
    """AdamW's numbers; the learning rate stays constant."""
    batch_size: int = 4
    """Images per step."""
    seed: int = 0
    """Seed of the images' order."""

    def check(self, where: str) -> None:
        """Refuses sizes out of range, and a text that says nothing."""
        at_least(self.steps, 0, f"{where}.steps")
        at_least(self.batch_size, 1, f"{where}.batch_size")
        if not self.text.strip():
            raise UserError(f"{where}.text: empty; give a sentence that names no object")


def learning_speed(tools: Tools, params: Params, settings: Masking) -> dict[str, Any]:
    """Trains on the neutral text and records how fast its loss falls.

    Args:
      tools: gives the training images, frozen weights and image features.
      params: trainable parameters to start from; left as they are.
      settings: text, steps, batch size, optimizer and seed.

    Returns:
      JSON values: `text`, `samples` and `steps` (counts); `loss`, each step's loss before its update in nats
      per token, of which `before` is the first and `after` the last; `gained`, their difference. An image
      comes again only when all others have come as often.

    Raises:
      loop.NotFiniteError: a loss or gradient is not finite.
    """
    from sare_jax.data.batches import tokenize

    images = list(dict.fromkeys(tools.curated.rows.image.tolist()))
    curated = with_captions(tools.curated, images, [settings.text] * len(images))
    units = tokenize(curated, tools.prompter, tools.instruction, kinds=("sent",)).sent
    order = np.random.default_rng(settings.seed).permutation(len(units))
    order = np.resize(order, settings.steps * settings.batch_size)
    record = finetune(tools, params, units, order, settings).record
    before, after = record["loss"][0], record["loss"][-1]
    return {"text": settings.text, **record, "before": before, "after": after, "gained": before - after}
