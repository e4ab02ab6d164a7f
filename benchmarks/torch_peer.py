"""The peer of `benchmarks.step`: EFUF and SARE in PyTorch, with transformers, one call of the model a loss.

A LLaVA with the published sequence lengths (336 px, 576 image tokens, 32k words) at a width that a CPU can
run, everything frozen but the projector. It is what one writes today: `LlavaForConditionalGeneration` finds
the loss from labels, Targeted-SAM keeps a copy of the projector, moves it, and puts it back.

    python -m benchmarks.torch_peer --device cpu --dtype float32 --batch 1

Reads method names (`efuf`, `sare`) from standard input, takes one step for each, and answers a line of JSON
with its seconds. `benchmarks.step` runs it so, in turns with its own steps.
"""

import argparse
import json
import sys
import time

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from benchmarks.shapes import IMAGE, IMAGE_TOKEN, PROMPT, SYSTEM, TEXT, UNITS, VISION

NEG_WEIGHT, SENT_WEIGHT, RHO = 0.3, 0.2, 0.05


class Peer:
    """The model, a batch of each set, and a step of each method."""

    def __init__(self, device: str, dtype: torch.dtype, batch: int):
        torch.manual_seed(0)
        config = LlavaConfig(
            vision_config=CLIPVisionConfig(**VISION),
            text_config=LlamaConfig(**TEXT),
            image_token_id=IMAGE_TOKEN,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
        )
        with torch.device(device):
            self.model = LlavaForConditionalGeneration._from_config(config, dtype=dtype)
        self.model.requires_grad_(False)
        self.tuned = [p for n, p in self.model.named_parameters() if "multi_modal_projector" in n]
        for parameter in self.tuned:
            parameter.requires_grad_(True)
        if device == "cuda":
            self.model.forward = torch.compile(self.model.forward)
        self.optimizer = torch.optim.AdamW(self.tuned, lr=1e-5, weight_decay=0.05)
        self.batches = {kind: _batch(kind, batch, device, dtype) for kind in UNITS}

    def efuf(self) -> None:
        """One gradient of L_pos + λ₁ L_neg + λ₂ L_sent."""
        self.optimizer.zero_grad()
        total = self._loss("pos") - NEG_WEIGHT * self._loss("neg") + SENT_WEIGHT * self._loss("sent")
        total.backward()
        self.optimizer.step()

    def sare(self) -> None:
        """Eq. 8, one call after the other."""
        (-self._loss("neg")).backward()
        norm = torch.sqrt(sum(p.grad.float().square().sum() for p in self.tuned)) + 1e-12
        before = [p.detach().clone() for p in self.tuned]
        with torch.no_grad():
            for parameter in self.tuned:
                parameter.add_(parameter.grad, alpha=RHO / norm.item())
        self.optimizer.zero_grad()
        (-NEG_WEIGHT * self._loss("neg")).backward()
        with torch.no_grad():
            for parameter, value in zip(self.tuned, before, strict=True):
                parameter.copy_(value)
        (self._loss("pos") + SENT_WEIGHT * self._loss("sent")).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _loss(self, kind: str) -> torch.Tensor:
        return self.model(**self.batches[kind]).loss


def _batch(kind: str, batch: int, device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    context, target = UNITS[kind]
    generator = torch.Generator().manual_seed(sorted(UNITS).index(kind))

    def words(count: int) -> torch.Tensor:
        return torch.randint(3, 31000, (batch, count), generator=generator)

    image = torch.full((batch, IMAGE), IMAGE_TOKEN)
    ids = torch.cat([words(SYSTEM), image, words(PROMPT + context + target)], dim=1)
    labels = ids.clone()
    labels[:, :-target] = -100
    pixels = torch.randn(batch, 3, VISION["image_size"], VISION["image_size"], generator=generator)
    return {
        "input_ids": ids.to(device),
        "attention_mask": torch.ones_like(ids).to(device),
        "labels": labels.to(device),
        "pixel_values": pixels.to(device, dtype),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    peer = Peer(args.device, getattr(torch, args.dtype), args.batch)
    for line in sys.stdin:
        start = time.perf_counter()
        getattr(peer, line.strip())()
        if args.device == "cuda":
            torch.cuda.synchronize()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
