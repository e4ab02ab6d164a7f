"""One unlearning run, from the curated sets to its checkpoints."""

from pathlib import Path

import jax

from sare_jax.config import OptimConfig
from sare_jax.data.batches import count_steps, tokenize, unlearn_batches
from sare_jax.data.curated import Curated
from sare_jax.data.prompts import Prompter
from sare_jax.inference.features import FeatureCache
from sare_jax.models.load import LoadedLlava
from sare_jax.optim.objectives import ERASING
from sare_jax.training import loop
from sare_jax.training.checkpoints import Checkpoints
from sare_jax.training.sharding import compile_step, data_mesh, replicated
from sare_jax.training.state import Hyper, Params, init_state, unlearn_optimizer
from sare_jax.training.step import unlearn_step


def unlearn(
    loaded: LoadedLlava,
    curated: Curated,
    prompter: Prompter,
    features: FeatureCache,
    settings: OptimConfig,
    *,
    folder: Path,
    log: Path,
    name: str,
    num_devices: int = 0,
) -> Params:
    """Unlearns D_neg while D_pos and D_sent hold on to the rest (Eq. 8; with ρ = 0, Eq. 1).

    Goes on from the latest checkpoint in `folder`; the result is that of a run without interruption.

    Args:
      loaded: the base model.
      curated: the three sets.
      prompter: tokenizer and prompt form.
      features: vision features of the training images.
      settings: objective, weights, optimizer, batch size, length.
      folder: of the checkpoints.
      log: JSON lines of metrics.
      name: what the progress bar says.
      num_devices: of the data axis; 0 is all.

    Returns:
      The tuned parameters.
    """
    sets = tokenize(curated, prompter, settings.instruction)
    steps = count_steps(len(sets.neg), settings.batch_size, epochs=settings.epochs, steps=settings.steps)
    mesh = data_mesh(num_devices)
    hyper = Hyper(
        rho=settings.rho,
        neg_weight=settings.neg_weight,
        sent_weight=settings.sent_weight,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    step = compile_step(
        unlearn_step,
        mesh,
        merge=loop.ModelOf(loaded.graphdef),
        neg_loss=ERASING[settings.objective],
        micro_batches=settings.micro_batches,
    )
    batches = unlearn_batches(
        sets,
        batch_size=settings.batch_size,
        steps=steps,
        seed=settings.seed,
        row_multiple=mesh.size * settings.micro_batches,
    )
    whole = replicated(mesh)
    state = jax.device_put(init_state(loaded.params, unlearn_optimizer(hyper), settings.seed), whole)
    with Checkpoints(folder, loaded.content_hash, every=settings.checkpoint_every) as checkpoints:
        data = iter(batches)
        state = checkpoints.restore(state, data) or state
        state = loop.run(
            step,
            state,
            jax.device_put(loaded.frozen, whole),
            hyper,
            data,
            features,
            steps=steps,
            name=name,
            log=log,
            checkpoints=checkpoints,
        )
    return loop.placed_as(loaded.params, state.params)
