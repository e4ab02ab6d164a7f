"""What an attack is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    import jax
    import numpy as np
    from jax.sharding import Mesh

    from sare_jax.data.batches import Tokenizer
    from sare_jax.models.interface import LoadedModel
    from sare_jax.models.prompting import ImagePrompter
    from sare_jax.records.coco import Truth
    from sare_jax.records.curated import Curated
    from sare_jax.settings.auto import Sizer
    from sare_jax.training.remat import Policy
    from sare_jax.training.state import Params


__all__ = ["AS_CONFIGURED", "Asking", "Attack", "Attacked", "Pictures", "PlannedStep", "Planning", "Tools"]


class Pictures(NamedTuple):
    """A folder of images, as a model is trained on them.

    Attributes:
      folder: where they lie.
      prompter: tokenizes prompt and caption; images are given by file name.
      features: image file names → image features [images, …], the vision tower's output.
    """

    folder: Path
    prompter: ImagePrompter
    features: Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Tools:
    """What an attack on weights may use.

    Attributes:
      loaded: the base model, spread over `mesh`.
      curated: D_neg, D_pos and D_sent, on which the run was unlearned.
      prompter: tokenizes prompt and caption; images are given by file name.
      features: image file names → image features [images, …], the vision tower's output.
      truth: COCO annotations; the disjoint attack takes the categories' names from them.
      mesh: the devices; a batch's rows are spread over all of them.
      remat_policy: which activations of a layer are kept for the backward pass; None keeps all.
      instruction: the prompt before each training caption of the attacked run.
      name: label of the progress bar, `RUN ATTACK`.
      at: the path that a setting means; where `data.prepare` makes the data, relative ones lie in its folder.
      pictures: a folder of images, by its name as a setting; empty for the run's own.
      sizer: chooses `rows_at_once` where an attack's settings leave it to memory.
    """

    loaded: LoadedModel
    curated: Curated
    prompter: Tokenizer
    features: Callable[[Sequence[str]], np.ndarray]
    truth: Truth
    mesh: Mesh
    remat_policy: Policy | None
    instruction: str
    name: str
    at: Callable[[str], Path]
    pictures: Callable[[str], Pictures]
    sizer: Sizer | None = None


class Attacked(NamedTuple):
    """Result of an attack on weights.

    Attributes:
      params: the trainable parameters after the attack, and any adapters (`models.shared.lora`) beside them.
      record: what was done, such as the number of steps and their losses; JSON values, written to
        `attacks/RUN/NAME.json`.
    """

    params: Params
    record: dict[str, Any]


@dataclass(frozen=True)
class Asking:
    """How a model is asked to describe images.

    Attributes:
      prompt: the describing prompt, which is also put before each question of a metric or benchmark; None
        takes `evaluate.prompt`.
      temperature: at which captions are drawn, without beams; None decodes as `decoding` says.
      seed: seeds the sampling of captions.
      draws: number of captions of each image, of which the worst is measured (`sare_jax.evaluation.worst`).
    """

    prompt: str | None = None
    temperature: float | None = None
    seed: int = 0
    draws: int = 1


AS_CONFIGURED = Asking()


class Planning(NamedTuple):
    """What is known of a run before any weight is read.

    Attributes:
      model: the base model as shapes with shardings (`plan.compiled.Abstract`).
      mesh: the devices.
      remat_policy: as in `Tools`.
      length: tokens of a row.
      answer: target tokens of a row.
    """

    model: Any
    mesh: Mesh
    remat_policy: Policy | None
    length: int
    answer: int


class PlannedStep(NamedTuple):
    """The training step of an attack, to be compiled without weights.

    Attributes:
      title: what a step does, for people.
      step: the jitted step.
      arguments: state, frozen weights, batch and settings, as shapes with shardings.
      rows_at_once: rows that a device runs at a time.
    """

    title: str
    step: jax.stages.Wrapped
    arguments: tuple[Any, ...]
    rows_at_once: int


@dataclass(frozen=True)
class Attack:
    """One kind of attack: it changes the weights, or how the model is asked, or both.

    Attributes:
      settings: frozen dataclass; its fields are the keys of `attacks.NAME` for this kind.
      weights: (tools, a run's params, settings) → new params and a record; it must not change its arguments.
        None leaves the weights as they are.
      asking: settings → how the model is asked. None asks as configured.
      reads: settings → files, named as settings name them, on whose content the weights depend.
      planned: (settings, what is known) → its training step, where that needs more memory than unlearning.
    """

    settings: type
    weights: Callable[[Tools, Params, Any], Attacked] | None = None
    asking: Callable[[Any], Asking] | None = None
    reads: Callable[[Any], tuple[str, ...]] | None = None
    planned: Callable[[Any, Planning], PlannedStep] | None = None
