"""The relearning attack: plain fine-tuning on a few of the units that were unlearnt."""

import numpy as np
from jax.sharding import Mesh

from sare_jax.data.batches import Tokenizer, count_steps, finetune_batches, tokenize
from sare_jax.errors import UserError
from sare_jax.models.load import LoadedLlava
from sare_jax.records.curated import Curated
from sare_jax.training import loop
from sare_jax.training.remat import Policy
from sare_jax.training.sharding import compile_step, gathering, on_mesh, spread_rows
from sare_jax.training.state import FinetuneHyper, Params, as_arrays, finetune_optimizer, init_state
from sare_jax.training.step import finetune_step
from sare_jax.training.unlearn import Features


def sample_order(num_negatives: int, num_samples: int, seed: int) -> np.ndarray:
    """The units that an attack sees, in its order.

    Nested by seed: the order of 60 samples is the beginning of that of 100, so a larger attack is a smaller
    one carried on.

    Args:
      num_negatives: units of D_neg.
      num_samples: N.
      seed: of the order.

    Returns:
      int64[N] indices into D_neg.

    Raises:
      UserError: D_neg has fewer units.
    """
    if num_samples > num_negatives:
        raise UserError(
            f"attack.num_samples is {num_samples}, but D_neg has {num_negatives}; lower it, or curate more"
        )
    return np.random.default_rng(seed).permutation(num_negatives)[:num_samples]


def relearn(
    loaded: LoadedLlava,
    params: Params,
    curated: Curated,
    tokenizer: Tokenizer,
    features: Features,
    *,
    instruction: str,
    num_samples: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    batch_size: int = 4,
    seed: int = 0,
    name: str = "relearn",
    mesh: Mesh,
    remat_policy: Policy | None = None,
) -> Params:
    """Tunes the mapping layers once over `num_samples` units of D_neg by AdamW on L_ft (protocols 3.3).

    The settings are arguments of one compiled step, which all runs and sample numbers share.

    Args:
      loaded: the base model.
      params: the unlearnt parameters; copied, not changed.
      curated: the sets that the unlearning used.
      tokenizer: the model's `Prompter`.
      features: vision features by file name.
      instruction: prompt of the samples.
      num_samples: N; 60, 100 and 140 in the paper.
      learning_rate: of AdamW, constant.
      weight_decay: of AdamW.
      batch_size: samples a step.
      seed: of the samples and their order (`sample_order`).
      name: shown with the progress.
      mesh: devices that share the batches, from `make_mesh`; the model lies on them.
      remat_policy: what a layer keeps for its backward pass; None keeps all.

    Returns:
      The relearnt parameters.

    Raises:
      UserError: D_neg has fewer than `num_samples` units.
      loop.NotFiniteError: training diverged.
    """
    units = tokenize(curated, tokenizer, instruction, kinds=("neg",)).neg
    order = sample_order(len(units), num_samples, seed)
    batches = finetune_batches(units, order, batch_size=batch_size, row_multiple=mesh.size)
    compiled = compile_step(finetune_step, mesh, merge=loaded.merge, remat_policy=remat_policy)
    hyper = FinetuneHyper(learning_rate, weight_decay)
    optimizer = finetune_optimizer(hyper)
    arguments = as_arrays(hyper)

    def step(state, batch):
        batch["features"] = features(batch.pop("image").tolist())
        return compiled(state, loaded.frozen, spread_rows(batch, mesh), arguments)

    with gathering(mesh):
        state = on_mesh(lambda params: init_state(params, optimizer, seed), mesh, params)
        steps = count_steps(num_samples, batch_size, epochs=1, steps=0)
        return loop.run(state, iter(batches), step, steps=steps, name=name).params
