"""What an attack is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from jax.sharding import Mesh

    from sare_jax.data.batches import Tokenizer
    from sare_jax.models.interface import LoadedModel
    from sare_jax.records.coco import Truth
    from sare_jax.records.curated import Curated
    from sare_jax.settings import DecodingConfig
    from sare_jax.training.remat import Policy
    from sare_jax.training.state import Params


@dataclass(frozen=True)
class Tools:
    """What an attack on weights may use.

    Attributes:
      loaded: the base model, spread over `mesh`.
      curated: the sets that the unlearning used.
      prompter: the model's tokenizer and prompt form, for the images by file name.
      features: gives the image features [images, …] of image names.
      truth: the annotations, for the names of their categories.
      mesh: devices that share the batches.
      remat_policy: what a layer keeps for its backward pass; None keeps everything.
      instruction: prompt of the training samples of the run that is attacked.
      name: shown with the progress.
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


class Attacked(NamedTuple):
    """What an attack on weights comes to.

    Attributes:
      params: the new weights.
      record: JSON-able, what was done and seen on the way; `attacks/RUN/NAME.json` holds it.
    """

    params: Params
    record: dict[str, Any]


@dataclass(frozen=True)
class Asking:
    """How a model is asked to describe images.

    Attributes:
      prompt: the describing prompt, which also stands before each question of a metric; None asks as
        configured.
      decoding: how captions are decoded; None decodes as configured.
      draws: captions of each image, of which the worst is measured (`sare_jax.evaluation.worst`).
    """

    prompt: str | None = None
    decoding: DecodingConfig | None = None
    draws: int = 1


AS_CONFIGURED = Asking()


@dataclass(frozen=True)
class Attack:
    """One kind of attack. Its weights are measured, or the model is asked otherwise, or both.

    Attributes:
      settings: dataclass of the keys that `attacks.NAME` has for this kind, as `sare_jax.settings` has them.
      weights: tools, the weights of a run, and the settings to what the attack comes to; leaves its
        arguments as they are. None attacks with the weights as they are.
      asking: the settings to how the model is asked. None asks as configured.
    """

    settings: type
    weights: Callable[[Tools, Params, Any], Attacked] | None = None
    asking: Callable[[Any], Asking] | None = None
