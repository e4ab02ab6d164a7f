"""Training by the definitions in PyTorch: transformers' LLaVA, one row a call, and `torch.optim.AdamW`.

Nothing here knows how sare_jax computes: no groups, windows, packing, cached features or compiled steps. A
loss is a mean over units of one call each, a gradient is `torch.autograd.grad` of it, and ε* moves the
parameters themselves and moves them back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import LlavaForConditionalGeneration

Batch = Mapping[str, Sequence["Unit"]]
Loss = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Unit:
    """One loss term.

    Attributes:
      tokens: ids of prompt, context and target; the image token stands as often as it has slots.
      start: index of the first target token; the target ends with the row.
      pixels: float[3, H, W].
    """

    tokens: tuple[int, ...]
    start: int
    pixels: torch.Tensor


@dataclass(frozen=True)
class Method:
    """Settings of a run, named as in the paper.

    Attributes:
      erase: log-probabilities of a target's tokens → L_neg of the unit.
      rho: radius of ε*; 0 is Eq. 1.
      neg_weight: λ₁.
      sent_weight: λ₂.
      learning_rate, weight_decay: AdamW's.
    """

    erase: Loss
    rho: float
    neg_weight: float
    sent_weight: float
    learning_rate: float
    weight_decay: float


def l_ft(log_probs: torch.Tensor) -> torch.Tensor:
    """Token-mean negative log-likelihood."""
    return -log_probs.mean()


def ascent(log_probs: torch.Tensor) -> torch.Tensor:
    """−L_ft."""
    return log_probs.mean()


def unlikelihood(log_probs: torch.Tensor) -> torch.Tensor:
    """−log(1 − P(target))."""
    return -torch.log1p(-torch.exp(log_probs.sum()))


class Trainer:
    """A model of which some parameters are tuned."""

    def __init__(self, model: LlavaForConditionalGeneration, tuned: Callable[[str], bool], method: Method):
        """Freezes everything but the parameters whose names `tuned` accepts."""
        self.model = model.train(False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(tuned(name))
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        self.params = [p for p in model.parameters() if p.requires_grad]
        self.method = method
        self.optimizer = torch.optim.AdamW(
            self.params,
            lr=method.learning_rate,
            betas=(0.9, 0.999),
            eps=1e-8,
            weight_decay=method.weight_decay,
        )

    def unlearn(self, batch: Batch) -> dict[str, float]:
        """One step of Eq. 8 (Eq. 1 where ρ is 0); returns the losses at θ and the norm of ∇L_neg."""
        method = self.method
        neg, at_theta = self._loss_and_grad(batch["neg"], method.erase)
        norm = torch.sqrt(sum((g.double() ** 2).sum() for g in at_theta))
        if method.rho:
            with torch.no_grad():
                kept = [p.clone() for p in self.params]
                for parameter, gradient in zip(self.params, at_theta, strict=True):
                    parameter += method.rho * gradient / norm.float()
            _, sharp = self._loss_and_grad(batch["neg"], method.erase)
            with torch.no_grad():
                for parameter, value in zip(self.params, kept, strict=True):
                    parameter.copy_(value)
        else:
            sharp = at_theta
        pos, pos_grads = self._loss_and_grad(batch["pos"], l_ft)
        sent, sent_grads = self._loss_and_grad(batch["sent"], l_ft)
        self._step(
            [
                method.neg_weight * n + p + method.sent_weight * s
                for n, p, s in zip(sharp, pos_grads, sent_grads, strict=True)
            ]
        )
        return {"neg": neg, "pos": pos, "sent": sent, "neg_grad_norm": float(norm)}

    def finetune(self, units: Sequence[Unit]) -> float:
        """One step on L_ft of the units; returns it at θ before the step."""
        loss, grads = self._loss_and_grad(units, l_ft)
        self._step(grads)
        return loss

    def _step(self, grads: Sequence[torch.Tensor]) -> None:
        for parameter, gradient in zip(self.params, grads, strict=True):
            parameter.grad = gradient
        self.optimizer.step()

    def _loss_and_grad(self, units: Sequence[Unit], loss: Loss) -> tuple[float, list[torch.Tensor]]:
        if not units:
            return 0.0, [torch.zeros_like(p) for p in self.params]
        total = sum(loss(self._log_probs(unit)) for unit in units) / len(units)
        return float(total.detach()), list(torch.autograd.grad(total, self.params))

    def _log_probs(self, unit: Unit) -> torch.Tensor:
        """float32[n], log-probability of each target token given all before it."""
        tokens = torch.tensor([unit.tokens])
        logits = self.model(input_ids=tokens, pixel_values=unit.pixels[None]).logits[0].float()
        log_probs = torch.log_softmax(logits, -1)
        places = torch.arange(unit.start, len(unit.tokens))
        return log_probs[places - 1, tokens[0, places]]
