"""The relearning attack: a few D_neg samples, trained by plain L_ft (Sec. 4.1; protocols 3.3)."""

import jax
import numpy as np

from sare_jax.data.batches import finetune_batches, tokenize
from sare_jax.data.curated import Curated
from sare_jax.data.prompts import Prompter
from sare_jax.errors import UserError
from sare_jax.inference.features import FeatureCache
from sare_jax.models.load import LoadedLlava
from sare_jax.training import loop
from sare_jax.training.sharding import compile_step, data_mesh, replicated
from sare_jax.training.state import FinetuneHyper, Params, finetune_optimizer, init_state
from sare_jax.training.step import finetune_step


def sample(num_units: int, num_samples: int, seed: int) -> np.ndarray:
    """Indices of the attack's samples; fewer samples of the same seed are the first of more.

    Args:
      num_units: size of D_neg.
      num_samples: how many are wanted.
      seed: of the draw.

    Raises:
      UserError: D_neg has fewer.
    """
    if num_samples > num_units:
        raise UserError(
            f"attack.num_samples: {num_samples} wanted, but D_neg has {num_units} units; lower it or raise "
            "curate.t1 (or curate.q1)"
        )
    return np.random.default_rng(seed).permutation(num_units)[:num_samples]


def relearn(
    loaded: LoadedLlava,
    params: Params,
    curated: Curated,
    prompter: Prompter,
    features: FeatureCache,
    *,
    instruction: str,
    num_samples: int,
    learning_rate: float,
    weight_decay: float,
    batch_size: int,
    seed: int,
    name: str,
    num_devices: int = 0,
) -> Params:
    """Trains the tuned layers on D_neg samples, one pass, so that they hallucinate again.

    Args:
      loaded: the base model.
      params: the weights under attack; they stay as they are.
      curated: its D_neg is what is relearned.
      prompter: tokenizer and prompt form.
      features: vision features of the training images.
      instruction: prompt of the samples.
      num_samples: how many, see `sample`.
      learning_rate: of AdamW, constant.
      weight_decay: of AdamW.
      batch_size: samples a step; the last step takes what is left.
      seed: of the samples and their order.
      name: what the progress bar says.
      num_devices: of the data axis; 0 is all.

    Returns:
      The weights after the attack.
    """
    mesh = data_mesh(num_devices)
    hyper = FinetuneHyper(learning_rate=learning_rate, weight_decay=weight_decay)
    units = tokenize(curated, prompter, instruction).neg
    order = sample(len(units), num_samples, seed)
    batches = finetune_batches(units, order, batch_size=batch_size, row_multiple=_rows(batch_size, mesh.size))
    whole = replicated(mesh)
    state = loop.run(
        compile_step(finetune_step, mesh, merge=loop.ModelOf(loaded.graphdef)),
        jax.device_put(init_state(params, finetune_optimizer(hyper), seed), whole),
        jax.device_put(loaded.frozen, whole),
        hyper,
        iter(batches),
        features,
        steps=-(-num_samples // batch_size),
        name=name,
    )
    return loop.placed_as(loaded.params, state.params)


def _rows(batch_size: int, num_devices: int) -> int:
    """Rows of every batch, the last one too, so that they divide over the devices and are one program."""
    return -(-batch_size // num_devices) * num_devices
