"""One unlearning run."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from sare_jax.errors import UserError
from sare_jax.objectives import OBJECTIVES, Objective
from sare_jax.objectives.choosing import OpeningChoices
from sare_jax.objectives.needs import PreferredContinuations, has
from sare_jax.optim import AdamW, Perturbation
from sare_jax.settings.auto import AUTO, Size
from sare_jax.settings.building import at_least
from sare_jax.settings.factories import make
from sare_jax.settings.samples import ChoiceSamples, CuratedSamples


@dataclass(frozen=True)
class OptimConfig:
    """One unlearning run (stage 3). `runs` overrides single keys of the shared values."""

    objective: str = "ascent"
    """Losses: a name of `sare_jax.objectives.OBJECTIVES`, or `module:name` of one's own factory. `ascent` is
    the paper's L_neg = −L_ft, `unlikelihood` is −log(1 − P(cur(o))), `npo` is negative preference
    optimisation against the starting weights, `rmu` draws activations to a random direction."""
    objective_args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of that factory: `reduction` of `ascent`, `beta` of `npo`, `layer` of
    `rmu`, …"""
    samples: CuratedSamples | ChoiceSamples = CuratedSamples()  # noqa: RUF009, immutable
    """What is trained on: `curated`, the sets of the curate stage, or `choices`, its captions and what they
    could name, for the objective `grounded_choice`."""
    preset: Literal["paper", "efuf"] = "paper"
    """`paper` has constant weights and all units alike; `efuf` has the schedules of λ₁ and of L_pos and the
    CLIP-score weights of EFUF's public code."""
    rho: float = 0.05
    """Radius ρ of the Targeted-SAM perturbation; 0 is Eq. 1, the EFUF baseline, in one pass."""
    neg_weight: float = 0.3
    """Weight λ₁ of L_neg."""
    pos_weight: float = 1.0
    """Weight of L_pos."""
    sent_weight: float = 0.2
    """Weight λ₂ of L_sent."""
    sam: Perturbation = Perturbation()
    """How the perturbation ε* is computed."""
    adamw: AdamW = AdamW()
    """AdamW, at a constant rate."""
    epochs: float = 1.0
    """Passes over D_neg, or over the captions where they are packed; used where `steps` is 0."""
    steps: int = 0
    """Optimizer steps; 0 derives them from `epochs`."""
    packing: Literal["unpacked", "packed"] = "unpacked"
    """`unpacked` draws from D_neg, D_pos and D_sent independently, one unit a row, and D_neg defines the
    epoch; `packed` has one caption a row with all its units, each once an epoch."""
    batch_size: int = 8
    """Samples of each of D_neg, D_pos and D_sent in a step, or captions, over all devices."""
    micro_batches: Size = 1
    """Parts in which a step's gradients are accumulated; `auto` is the fewest that fit."""
    checkpoint_every: int = 200
    """Steps between checkpoints; 0 saves the last alone."""
    instruction: str = "Please describe the image."
    """Prompt of the training samples."""
    dropout: float = 0.0
    """Share of the mapping layers' attention weights that a step drops. mPLUG-Owl's abstractor alone has such
    layers; its published training has 0.1."""
    seed: int = 0
    """Seed of the order of samples, and of what is dropped."""

    RENAMED: ClassVar[dict[str, str]] = {
        "npo_beta": "objective_args.beta",
        "reduction": "objective_args.reduction",
        "sam_norm": "sam.norm",
        "sam_scaling": "sam.scaling",
        "sam_eta": "sam.eta",
        "sam_steps": "sam.steps",
        "sam_refresh_every": "sam.refresh_every",
        "sam_between": "sam.between",
        "learning_rate": "adamw.learning_rate",
        "weight_decay": "adamw.weight_decay",
    }

    def check(self, where: str) -> None:
        """Refuses values out of range, and combinations that would fail only when the run starts."""
        for key in ("rho", "neg_weight", "pos_weight", "sent_weight", "steps", "checkpoint_every"):
            at_least(getattr(self, key), 0, f"{where}.{key}")
        for key in ("batch_size", "micro_batches"):
            at_least(getattr(self, key), 1, f"{where}.{key}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"{where}.dropout: must be at least 0 and below 1, got {self.dropout}")
        if self.micro_batches != AUTO and self.batch_size % self.micro_batches:
            raise UserError(f"{where}.micro_batches: must divide batch_size {self.batch_size}")
        if self.steps == 0 and self.epochs <= 0:
            raise UserError(f"{where}.epochs: must be above 0 where steps is 0")
        needs = objective_of(self, where).needs
        choosing = has(needs, OpeningChoices)
        if choosing != isinstance(self.samples, ChoiceSamples):
            made_for = ChoiceSamples.kind if choosing else CuratedSamples.kind
            raise UserError(
                f"{where}.samples.kind: {self.objective} is made for {made_for} samples, not for "
                f"{self.samples.kind}; set {where}.samples.kind={made_for} or choose another objective"
            )
        if choosing and self.preset != "paper":
            raise UserError(
                f"{where}.preset: {self.preset} weighs units by their CLIP scores, which samples of kind "
                f"{self.samples.kind} have none of; set {where}.preset=paper"
            )
        if self.packing == "packed" and has(needs, PreferredContinuations):
            raise UserError(
                f"{where}.packing: {self.objective} needs preferred continuations, which come with rows of "
                f"one unit alone; set {where}.packing=unpacked"
            )


def objective_of(settings: OptimConfig, where: str = "config.optim") -> Objective:
    """The objective that a run names; the same name and arguments give the same value.

    Args:
      settings: settings whose `objective` and `objective_args` count.
      where: dotted name of their section, for messages.

    Raises:
      UserError: there is no such objective, or an argument is unknown or wrong; names the key.
    """
    made = make(settings.objective, settings.objective_args, OBJECTIVES, f"{where}.objective")
    if not isinstance(made, Objective):
        raise UserError(f"{where}.objective: {settings.objective!r} gives {made!r}, no Objective")
    return made
