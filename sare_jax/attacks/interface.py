"""What an attack is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from jax.sharding import Mesh

    from sare_jax.data.batches import Tokenizer
    from sare_jax.models.interface import LoadedModel
    from sare_jax.records.curated import Curated
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
      mesh: devices that share the batches.
      remat_policy: what a layer keeps for its backward pass; None keeps everything.
      instruction: prompt of the training samples of the run that is attacked.
      name: shown with the progress.
    """

    loaded: LoadedModel
    curated: Curated
    prompter: Tokenizer
    features: Callable[[Sequence[str]], np.ndarray]
    mesh: Mesh
    remat_policy: Policy | None
    instruction: str
    name: str


@dataclass(frozen=True)
class Attack:
    """One kind of attack. Its weights are measured, or its prompt is asked, or both.

    Attributes:
      settings: dataclass of the keys that `attacks.NAME` has for this kind, as `sare_jax.settings` has them.
      weights: tools, the weights of a run, and the settings to new weights; leaves its arguments as they are.
        None attacks with the weights as they are.
      prompt: the settings to the describing prompt that is asked in place of the configured one; it also
        stands before each POPE question. None asks as configured.
    """

    settings: type
    weights: Callable[[Tools, Params, Any], Params] | None = None
    prompt: Callable[[Any], str] | None = None
