"""One unlearning run."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimConfig:
    """One unlearning run (stage 3). `runs` overrides single keys of the shared values.

    Attributes:
      objective: erasing loss L_neg: `ascent` is the paper's −L_ft, `unlikelihood` is −log(1 − P(cur(o))),
        `npo` is negative preference optimisation against the starting weights.
      npo_beta: β of `npo`.
      reduction: what L_ft of a unit is divided by: its tokens, or as EFUF does for MiniGPT-4 the padded
        length − 1 (the longest row's) or for mPLUG-Owl 512.
      preset: `paper` has constant weights and all units alike; `efuf` has the schedules of λ₁ and of L_pos
        and the CLIP-score weights of EFUF's public code.
      rho: radius ρ of the Targeted-SAM perturbation; 0 is Eq. 1, the EFUF baseline, in one pass.
      neg_weight: λ₁.
      sent_weight: λ₂.
      sam_norm: one norm over all parameters, or one for each tensor.
      sam_scaling: `adaptive` measures the ball in units of each parameter's size (ASAM); ρ is then about ten
        times as large.
      sam_eta: added to that size.
      sam_steps: ascent steps to ε*.
      sam_refresh_every: steps from one ε* to the next; in between its effect is taken from memory.
      sam_between: that effect `turned` with the gradient, or `kept` as it was, which with packed rows spares
        a backward pass.
      learning_rate, weight_decay: of AdamW; the rate is constant.
      epochs: passes over D_neg, or over the captions where they are packed; used where `steps` is 0.
      steps: optimizer steps; 0 derives them from `epochs`.
      packing: `unpacked` draws from D_neg, D_pos and D_sent independently, one unit a row, and D_neg defines
        the epoch (protocols 1.5); `packed` has one caption a row with all its units, each once an epoch.
      batch_size: samples of each of D_neg, D_pos and D_sent in a step, or captions, over all devices.
      micro_batches: parts in which a step's gradients are accumulated.
      checkpoint_every: steps between checkpoints; 0 saves the last alone.
      instruction: the prompt of the training samples (protocols 1.1).
      seed: of the sample order.
    """

    objective: Literal["ascent", "unlikelihood", "npo"] = "ascent"
    npo_beta: float = 0.1
    reduction: Literal["token_mean", "seq_mean_padded", "div512"] = "token_mean"
    preset: Literal["paper", "efuf"] = "paper"
    rho: float = 0.05
    neg_weight: float = 0.3
    sent_weight: float = 0.2
    sam_norm: Literal["global", "leaf"] = "global"
    sam_scaling: Literal["none", "adaptive"] = "none"
    sam_eta: float = 0.01
    sam_steps: int = 1
    sam_refresh_every: int = 1
    sam_between: Literal["turned", "kept"] = "turned"
    learning_rate: float = 1e-5
    weight_decay: float = 0.05
    epochs: float = 1.0
    steps: int = 0
    packing: Literal["unpacked", "packed"] = "unpacked"
    batch_size: int = 8
    micro_batches: int = 1
    checkpoint_every: int = 200
    instruction: str = "Please describe the image."
    seed: int = 0
