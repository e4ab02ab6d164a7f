"""Benign fine-tuning: on captions that hold nothing of what was unlearnt.

Whoever tunes the model further on honest captions is no attacker, and yet may bring hallucinations back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sare_jax.attacks.finetune import finetune, sample_order
from sare_jax.attacks.interface import Attack, Attacked, Tools
from sare_jax.errors import UserError
from sare_jax.optim import AdamW
from sare_jax.records.curated import Curated, Rows, Sentences
from sare_jax.records.texts import read_records
from sare_jax.settings.building import at_least

if TYPE_CHECKING:
    from sare_jax.training.state import Params


@dataclass(frozen=True)
class Benign:
    """Which captions are learnt, and how."""

    data: Literal["sent", "pos", "references"] = "sent"
    """D_sent's whole captions, D_pos's sub-sentences, or the reference captions of the training images."""
    captions: str = ""
    """A file of captions in place of `data`: JSON lines of `image` (or `image_id`) and `caption`."""
    num_samples: int = 60
    """Captions, or units of D_pos, to draw; 0 for all. More samples include fewer ones."""
    adamw: AdamW = AdamW(weight_decay=0.0)
    """AdamW's numbers; the learning rate stays constant."""
    batch_size: int = 4
    """Captions or units per step; the attack makes one pass over those that are drawn."""
    seed: int = 0
    """Seed of which captions are drawn, and in which order."""

    def check(self, where: str) -> None:
        """Refuses sizes out of range, and a file that is not there."""
        at_least(self.num_samples, 0, f"{where}.num_samples")
        at_least(self.batch_size, 1, f"{where}.batch_size")
        if self.captions and not Path(self.captions).is_file():
            raise UserError(f"{where}.captions: {self.captions}: no such file; leave it empty to use `data`")


def benign(tools: Tools, params: Params, settings: Benign) -> Attacked:
    """Makes one pass over harmless captions with AdamW on L_ft.

    Args:
      tools: gives the curated sets, reference captions, frozen weights and image features.
      params: trainable parameters of the attacked run; copied, not changed.
      settings: which captions, how many, batch size, optimizer and seed.

    Returns:
      The parameters after the attack, and the record that `finetune` makes with `data`, the captions' source.

    Raises:
      UserError: there are fewer captions than `num_samples`, or none, or a caption's image is not known.
      loop.NotFiniteError: a loss or gradient is not finite.
    """
    from sare_jax.data.batches import tokenize

    curated, kind, source = _captions(tools, settings)
    if not len(getattr(curated, kind)):
        raise UserError(f"attack {tools.name}: {source} holds nothing to learn from; choose other `data`")
    units = getattr(tokenize(curated, tools.prompter, tools.instruction, kinds=(kind,)), kind)
    order = sample_order(len(units), settings.num_samples, settings.seed, source)
    params, record = finetune(tools, params, units, order, settings)
    return Attacked(params, {"data": source} | record)


def with_captions(curated: Curated, images: Sequence[str], texts: Sequence[str]) -> Curated:
    """The sets with other whole captions as D_sent; the sub-sentences' rows no longer mean anything.

    Args:
      curated: the sets.
      images: file name of each caption's image.
      texts: the captions.
    """
    count = len(texts)
    rows = Rows(np.array(images, np.str_), np.arange(count, dtype=np.int64), np.array(texts, np.str_))
    ones = np.ones(count, np.float32)
    return dataclasses.replace(
        curated, rows=rows, sent=Sentences(np.arange(count, dtype=np.int32), ones, ones)
    )


def _captions(tools: Tools, settings: Benign) -> tuple[Curated, str, str]:
    """The sets, which of them is learnt, and what it is called."""
    curated = tools.curated
    if settings.captions:
        return _of_file(tools, settings.captions), "sent", settings.captions
    if settings.data == "references":
        names = dict(zip(curated.rows.image_id.tolist(), curated.rows.image.tolist(), strict=True))
        pairs = [
            (name, text) for image, name in names.items() for text in tools.truth.references.get(image, ())
        ]
        return with_captions(curated, *_columns(pairs)), "sent", "references"
    return curated, settings.data, f"D_{settings.data}"


def _of_file(tools: Tools, path: str) -> Curated:
    records, dropped = read_records(path)
    if dropped:
        raise UserError(f"{path}: unusable records ({dropped.told()}); correct them or take them out")
    pairs = []
    for number, record in enumerate(records, start=1):
        image = record.get("image", record.get("image_id"))
        known = tools.truth.resolve(image)
        name = image if known is None else tools.truth.files[known]
        text = record.get("caption", record.get("text"))
        if not isinstance(name, str) or not isinstance(text, str):
            raise UserError(f"{path}: record {number} needs a known `image` and a `caption`")
        pairs.append((name, text))
    return with_captions(tools.curated, *_columns(pairs))


def _columns(pairs: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [image for image, _ in pairs], [text for _, text in pairs]


ATTACK = Attack(settings=Benign, weights=benign)
