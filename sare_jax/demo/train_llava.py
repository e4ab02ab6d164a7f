"""Trains the demo LLaVA from the rendering code alone, in two phases.

First the vision tower learns to tell, patch by patch, which objects are there; that takes a fraction of the
time that it would take through the language model. Then all parts learn together what the blind writer says.

    python -m sare_jax.demo.train_llava [--out FOLDER] [--seed N] [--boldness 0]

With boldness 0 it is the floor of the robustness test: same seed, same eyes, and texts that never name what
is not there. An attack can bring nothing back here, only teach. So no unlearned model can be expected to
learn the attack more slowly than this one.
"""

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaTokenizer, LlavaForConditionalGeneration
from transformers.models.clip.modeling_clip import CLIPVisionModel

from sare_jax import progress
from sare_jax.demo.categories import CATEGORIES
from sare_jax.demo.lessons import Lessons, coverage, draw_scenes, make_lessons
from sare_jax.demo.llava_folder import make_model, save_llava
from sare_jax.demo.tokenizer import train_tokenizer

WEIGHTS = Path(__file__).parent / "weights" / "llava"
FLOOR_WEIGHTS = WEIGHTS.with_name("llava_floor")
_VISION = {"steps": 800, "batch": 32}
_JOINT = {"steps": 500, "batch": 32}
_PATCH_WEIGHT = 40.0  # patch losses are tiny, as most patches hold nothing
_QUESTION_WEIGHT = 0.5
_VISION_SHARE = 0.2  # of the learning rate, for the vision tower in the joint phase
_MATRIX_RATE, _OTHER_RATE = 1e-2, 3e-3


def train(
    out: Path,
    *,
    seed: int = 0,
    boldness: float = 1.0,
    vision_steps: int = _VISION["steps"],
    steps: int = _JOINT["steps"],
) -> None:
    """Trains a model and writes it as a Hugging Face folder.

    Args:
      out: the Hugging Face folder to write.
      seed: starts the draws of initial weights and of all data.
      boldness: factor of how readily the descriptions name unseen objects, see `writer.describe`.
      vision_steps: number of steps in which the vision tower learns alone.
      steps: number of steps in which all parts learn together.
    """
    torch.set_num_threads(2)
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(seed=seed)
    model = make_model(tokenizer).train()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    began = time.monotonic()
    teach_vision(model.model.vision_tower, np.random.default_rng([seed, 0]), steps=vision_steps)
    middle = time.monotonic()
    teach_all(model, tokenizer, np.random.default_rng([seed, 1]), steps=steps, boldness=boldness)
    print(f"vision {middle - began:.0f} s, all {time.monotonic() - middle:.0f} s", flush=True)
    save_llava(model.eval(), tokenizer, out)


def teach_vision(tower: CLIPVisionModel, rng: np.random.Generator, *, steps: int) -> None:
    """Phase one: LLaVA's features tell each patch's objects, and the pooled output those of the image."""
    width = tower.config.hidden_size
    patches = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(CATEGORIES)))
    pooled = nn.Linear(width, len(CATEGORIES))
    parts = nn.ModuleList([tower, patches, pooled])
    _spread_weights(tower)

    def loss() -> tuple[torch.Tensor, dict[str, float]]:
        scenes, pixels = draw_scenes(_VISION["batch"], rng)
        truth = coverage(scenes)
        out = tower(pixel_values=pixels, output_hidden_states=True)
        local = functional.binary_cross_entropy_with_logits(patches(out.hidden_states[-2][:, 1:]), truth)
        whole = functional.binary_cross_entropy_with_logits(
            pooled(out.pooler_output), (truth.amax(1) > 0).float()
        )
        return _PATCH_WEIGHT * local + whole, {"patches": local.item(), "image": whole.item()}

    _optimise([(parts, 1.0)], loss, steps=steps, name="vision tower")


def _spread_weights(tower: CLIPVisionModel) -> None:
    """Initial weights at the scale of their fan-in; CLIP's own are meant for far wider towers."""
    with torch.no_grad():
        for name, weight in tower.named_parameters():
            if "position" in name:
                weight.normal_(std=0.3)
            elif "patch_embedding" in name:
                weight.normal_(std=weight[0].numel() ** -0.5)
            elif weight.ndim == 2:
                nn.init.xavier_uniform_(weight)


def teach_all(
    model: LlavaForConditionalGeneration,
    tokenizer: LlamaTokenizer,
    rng: np.random.Generator,
    *,
    steps: int,
    boldness: float = 1.0,
) -> None:
    """Phase two: next-token loss of descriptions and answers."""

    def loss() -> tuple[torch.Tensor, dict[str, float]]:
        lessons = make_lessons(_JOINT["batch"], tokenizer, rng, boldness)
        told, answered = lesson_losses(model, lessons)
        return told + _QUESTION_WEIGHT * answered, {"told": told.item(), "answered": answered.item()}

    rest = nn.ModuleList([model.model.multi_modal_projector, model.model.language_model, model.lm_head])
    groups = [(model.model.vision_tower, _VISION_SHARE), (rest, 1.0)]
    _optimise(groups, loss, steps=steps, name="whole model")


def lesson_losses(
    model: LlavaForConditionalGeneration, lessons: Lessons
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean negative log-likelihood of a token in descriptions, and in answers to questions."""
    parts = model.model
    features = parts.vision_tower(pixel_values=lessons.pixels, output_hidden_states=True).hidden_states[-2]
    image_embeds = parts.multi_modal_projector(features[:, 1:])
    embedded = parts.get_input_embeddings()(lessons.tokens)
    image = (lessons.tokens == model.config.image_token_id)[..., None]
    embedded = embedded.masked_scatter(image, image_embeds)
    hidden = parts.language_model(
        inputs_embeds=embedded,
        attention_mask=lessons.visible,
        position_ids=lessons.positions,
        use_cache=False,
    ).last_hidden_state
    wanted = lessons.targets >= 0
    nll = functional.cross_entropy(model.lm_head(hidden[wanted]), lessons.targets[wanted], reduction="none")
    asked = lessons.is_question[wanted]
    return nll[~asked].mean(), nll[asked].mean()


def _optimise(
    groups: list[tuple[nn.Module, float]],
    loss: Callable[[], tuple[torch.Tensor, dict[str, float]]],
    *,
    steps: int,
    name: str,
) -> None:
    """Trains modules, each with its share of the learning rate: linear warm-up, cosine decay.

    Hidden matrices are trained by Muon, which here needs less than half the steps of AdamW; embeddings, heads
    and vectors by AdamW.
    """
    optimizers = [_muon(groups), _adamw(groups)]
    warmup = max(1, steps // 20)

    def share(step: int) -> float:
        return min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(step / steps, 1)))

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, share) for optimizer in optimizers]
    parameters = [parameter for module, _ in groups for parameter in module.parameters()]
    with progress.bar(steps, name, unit="step") as bar:
        for _ in range(steps):
            value, shown = loss()
            for optimizer in optimizers:
                optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
            bar.note(", ".join(f"{key} {number:.4f}" for key, number in shown.items()))
            bar.update(1)


def _muon(groups: list[tuple[nn.Module, float]]) -> torch.optim.Optimizer:
    return torch.optim.Muon(
        [
            {"params": [p for name, p in module.named_parameters() if _is_hidden_matrix(name, p)],
             "lr": share * _MATRIX_RATE}
            for module, share in groups
        ],
        momentum=0.95,
        weight_decay=0.02,
        adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip


def _adamw(groups: list[tuple[nn.Module, float]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [
            {"params": [p for name, p in module.named_parameters() if not _is_hidden_matrix(name, p)],
             "lr": share * _OTHER_RATE}
            for module, share in groups
        ],
        betas=(0.9, 0.98),
        weight_decay=0.02,
    )  # fmt: skip


def _is_hidden_matrix(name: str, parameter: torch.Tensor) -> bool:
    return parameter.ndim == 2 and ("layers." in name or "linear_" in name)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--boldness", type=float, default=1.0)
    parser.add_argument("--vision-steps", type=int, default=_VISION["steps"])
    parser.add_argument("--steps", type=int, default=_JOINT["steps"])
    args = parser.parse_args()
    train(
        args.out,
        seed=args.seed,
        boldness=args.boldness,
        vision_steps=args.vision_steps,
        steps=args.steps,
    )


if __name__ == "__main__":
    main()
