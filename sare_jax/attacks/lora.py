"""LoRA fine-tuning: adapters beside the language model's linear layers, trained on ordinary conversations.

The recipe is LLaVA's (`finetune_lora.sh`, protocols 7.1), which trains the projector too and so writes over
what was unlearnt. The language model's own weights are not changed and not copied: the attacked model is the
run's, with adapters beside its layers (`models.shared.lora`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sare_jax.attacks.finetune import train
from sare_jax.attacks.interface import Attack, Attacked, Pictures, PlannedStep, Planning, Tools
from sare_jax.errors import UserError
from sare_jax.records.conversations import Conversation, read_conversations
from sare_jax.rounding import round_up
from sare_jax.settings.auto import AUTO, Lowered, Size
from sare_jax.settings.building import above_zero, at_least

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sare_jax.data.batches import Batch
    from sare_jax.data.conversations import DialogueRow
    from sare_jax.training.adapting import Rates
    from sare_jax.training.state import Params, TrainState
    from sare_jax.training.static import Static
    from sare_jax.training.step import Metrics


@dataclass(frozen=True)
class Lora:
    """What is learnt, by which adapters, and how. The defaults are LLaVA's recipe."""

    conversations: str = "data/llava_v1_5_mix665k.json"
    """What is learnt: LLaVA's conversation JSON (`llava_v1_5_mix665k.json`), or records of `image` and
    `caption`, which are learnt as answers to the run's own instruction. Where `data.prepare` makes the data,
    a relative name is taken from its folder; so is that of `images`."""
    images: str = ""
    """Folder to which the file's image names are relative; empty is that of the run."""
    turns: Literal["first", "all"] = "first"
    """The first question and answer of each conversation, or all of them."""
    num_rows: int = 10_000
    """Conversations to draw among those whose image is there; 0 for all. More rows include fewer ones."""
    rank: int = 128
    """r, the inner width of an adapter."""
    alpha: float = 256.0
    """α; what an adapter adds is multiplied by α / r."""
    dropout: float = 0.05
    """Share of an adapter's inputs that is dropped in training."""
    learning_rate: float = 2e-4
    """Highest learning rate of the adapters. It rises from 0, then falls to 0 along a cosine."""
    mapping_rate: float = 2e-5
    """The same of the run's own trainable parameters (LLaVA's projector); 0 leaves them as they are."""
    warmup: float = 0.03
    """Share of the steps in which the rates rise."""
    batch_rows: int = 128
    """Conversations per optimizer step; the attack makes one pass over those that are drawn."""
    rows_at_once: Size = 4
    """Conversations that a device runs at a time; gradients are added up to the whole batch. `auto` is the
    largest number that fits."""
    max_length: int = 2048
    """Tokens of a row, image slots included; what is beyond them is cut off."""
    seed: int = 0
    """Seed of the rows and their order, of A, and of what is dropped."""

    def check(self, where: str) -> None:
        """Refuses numbers out of range."""
        at_least(self.num_rows, 0, f"{where}.num_rows")
        at_least(self.mapping_rate, 0, f"{where}.mapping_rate")
        for name in ("rank", "batch_rows", "rows_at_once", "max_length"):
            at_least(getattr(self, name), 1, f"{where}.{name}")
        for name in ("alpha", "learning_rate"):
            above_zero(getattr(self, name), f"{where}.{name}")
        for name in ("dropout", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{where}.{name}: must be at least 0 and below 1, got {getattr(self, name)}")


def adapt(tools: Tools, params: Params, settings: Lora) -> Attacked:
    """Makes one pass over conversations.

    Args:
      tools: gives the frozen weights, the images and the mesh.
      params: the run's trainable parameters; copied, not changed.
      settings: data, adapters and recipe.

    Returns:
      The run's parameters, trained too unless `mapping_rate` is 0, with adapters beside them; and the record:
      `conversations` (the file), `left_out` (reason → records), `rows`, `steps`, `target_tokens` (counts);
      `adapters`, their `number`, `parameters` and `l2`, the norm of what they add to the weights; and each
      step's `loss` before its update, in nats a token, `rate_adapters` and `rate_mapping`.

    Raises:
      UserError: the file is unusable, or holds fewer rows than are to be drawn.
      loop.NotFiniteError: a loss or gradient is not finite.
    """
    import jax

    from sare_jax.data.conversations import batches, dialogue_rows
    from sare_jax.models.shared import lora
    from sare_jax.models.shared.partition import combine, flatten
    from sare_jax.training.adapting import adapt_step, optimizer
    from sare_jax.training.sharding import compile_step, on_mesh

    loaded, mesh, pictures = tools.loaded, tools.mesh, tools.pictures(settings.images)
    chosen, left_out = _chosen(tools, pictures, settings)
    rows = dialogue_rows(chosen, pictures.prompter, settings.max_length)
    left_out["no target within max_length"] = len(chosen) - len(rows)

    settings = _sized(tools, settings, rows)
    kernels = lora.kernels_of(loaded.shape.layers, flatten(loaded.frozen) | flatten(params))
    key = jax.random.key(settings.seed)
    adapters = on_mesh(lambda: lora.init(kernels, settings.rank, key), mesh)
    scales = on_mesh(lambda: lora.scales(kernels, settings.alpha / settings.rank), mesh)
    learnt, kept = divided(params, adapters, settings)
    frozen = combine(combine(loaded.frozen, kept), scales)

    steps = math.ceil(len(rows) / settings.batch_rows)
    size, static = program(loaded.merge, mesh.size, tools.remat_policy, settings)
    rates = rates_of(settings, steps)
    compiled = compile_step(adapt_step, mesh, static)

    def step(state: TrainState, inputs: Batch) -> tuple[TrainState, Metrics]:
        return compiled(state, frozen, inputs, rates)

    stream = batches(rows, batch_size=settings.batch_rows, pad_id=pictures.prompter.pad_id, row_multiple=size)
    tuned, metrics = train(
        tools, learnt, optimizer(rates), stream, step, pictures.features, steps=steps, seed=settings.seed
    )
    adapters = combine(lora.split(tuned)[1], scales)
    record = {
        "conversations": settings.conversations,
        "left_out": {reason: count for reason, count in left_out.items() if count},
        "rows": len(rows),
        "steps": steps,
        "target_tokens": sum(len(row.targets) for row in rows),
        "adapters": {
            "number": len(kernels) * next(iter(kernels.values()))[0],
            "parameters": sum(leaf.size for path, leaf in flatten(tuned).items() if lora.is_adapter(path)),
            "l2": lora.l2(adapters),
        },
        **{name: metrics[name] for name in ("loss", "rate_adapters", "rate_mapping")},
    }
    return Attacked(combine(combine(lora.split(tuned)[0], kept), adapters), record)


def planned(settings: Lora, planning: Planning) -> PlannedStep:
    """The attack's step on a whole batch, all of whose rows have the assumed lengths."""
    import jax
    import jax.numpy as jnp

    from sare_jax.models.shared import lora
    from sare_jax.models.shared.partition import combine, flatten
    from sare_jax.training.adapting import adapt_step, optimizer
    from sare_jax.training.sharding import by_rows, compile_step, replicated
    from sare_jax.training.state import init_state

    model, mesh = planning.model, planning.mesh

    def placed(make: Any, sharding: Any) -> Any:
        shapes = jax.eval_shape(make)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)

    kernels = lora.kernels_of(model.shape.layers, flatten(model.frozen) | flatten(model.params))
    adapters = jax.eval_shape(lambda: lora.init(kernels, settings.rank, jax.random.key(0)))
    scales = placed(lambda: lora.scales(kernels, 1.0), replicated(mesh))
    learnt, kept = divided(model.params, adapters, settings)
    multiple, static = program(model.merge, mesh.size, planning.remat_policy, settings)
    rows = round_up(settings.batch_rows, multiple)
    image = (rows, model.shape.num_image_features, model.shape.feature_width)
    dtype = jax.tree.leaves(model.frozen)[0].dtype

    def batch() -> dict[str, Any]:
        answers, unit = jnp.zeros((rows, planning.answer), jnp.int32), jnp.zeros((rows, 1), jnp.int32)
        return {
            "tokens": jnp.zeros((rows, planning.length), jnp.int32),
            "targets": answers,
            "positions": answers,
            "units": {"neg": {"start": unit, "end": unit, "by_unit": {"weight": jnp.zeros((rows, 1))}}},
            "features": jnp.zeros(image, dtype),
        }

    rates = rates_of(settings, 1)
    state = placed(lambda: init_state(_zeros(learnt), optimizer(rates), 0), replicated(mesh))
    frozen = combine(combine(model.frozen, kept), scales)
    return PlannedStep(
        f"LoRA step: batch {rows} in {static.micro_batches} parts, r {settings.rank}",
        compile_step(adapt_step, mesh, static),
        (state, frozen, placed(batch, by_rows(mesh)), rates),
        rows // mesh.size // static.micro_batches,
    )


def _sized(tools: Tools, settings: Lora, rows: Sequence[DialogueRow]) -> Lora:
    """The settings with a number of `rows_at_once`: of `auto` the most with which the longest rows fit."""
    if settings.rows_at_once != AUTO:
        return settings
    if tools.sizer is None:
        raise UserError(f"attack {tools.name}: rows_at_once: auto needs a run's own devices; give a number")
    length = max(len(row.tokens) for row in rows)
    answer = max(len(row.targets) for row in rows)
    planning = Planning(tools.loaded, tools.mesh, tools.remat_policy, length, answer)

    def make(number: int) -> Lowered:
        from sare_jax.training.sharding import gathering

        step = planned(replace(settings, rows_at_once=number), planning)
        with gathering(tools.mesh):
            return Lowered(step.step.lower(*step.arguments), step.arguments[:3])

    about = {"length": length, "answer": answer, "batch": settings.batch_rows, "rank": settings.rank}
    most = math.ceil(settings.batch_rows / tools.mesh.size)
    return replace(settings, rows_at_once=tools.sizer.rows(make, multiple=1, most=most, about=about))


def divided(params: Params, adapters: Params, settings: Lora) -> tuple[Params, Params]:
    """What the attack trains, and those of the run's own parameters that stay."""
    from sare_jax.models.shared.partition import combine

    return (combine(params, adapters), {}) if settings.mapping_rate else (adapters, params)


def program(merge: Any, devices: int, remat_policy: Any, settings: Lora) -> tuple[int, Static]:
    """To what multiple a batch's rows are filled up, and everything of a step that is no array."""
    from sare_jax.training.adapting import Dropping
    from sare_jax.training.gradients import general
    from sare_jax.training.static import Static
    from sare_jax.training.step import PLAIN

    assert settings.rows_at_once != AUTO
    multiple = devices * min(settings.rows_at_once, math.ceil(settings.batch_rows / devices))
    gradients = Dropping(1 - settings.dropout) if settings.dropout else general.gradients
    parts = round_up(settings.batch_rows, multiple) // multiple
    return multiple, Static(merge, PLAIN, gradients, micro_batches=parts, remat_policy=remat_policy)


def rates_of(settings: Lora, steps: int) -> Rates:
    """The rates of a run of so many steps, as arguments of its program."""
    from sare_jax.training.adapting import Rates
    from sare_jax.training.state import as_arrays

    warmup = math.ceil(settings.warmup * steps)
    return as_arrays(Rates(settings.learning_rate, settings.mapping_rate, warmup, steps))


def _chosen(tools: Tools, pictures: Pictures, settings: Lora) -> tuple[list[Conversation], dict[str, int]]:
    """The conversations that are learnt, in training order, and reason → number of those left out."""
    from sare_jax.data.images import usable_images

    path = tools.at(settings.conversations)
    there, left_out = read_conversations(
        path, settings.turns, tools.instruction, lambda name: (pictures.folder / name).is_file()
    )
    if settings.num_rows > len(there):
        raise UserError(
            f"attack {tools.name}: num_rows is {settings.num_rows}, but {path} has {len(there)} that can be "
            "used; lower it (0 takes all)"
        )
    order = np.random.default_rng(settings.seed).permutation(len(there))[: settings.num_rows or len(there)]
    drawn = [there[index] for index in order]
    _, bad = usable_images(pictures.folder, dict.fromkeys(one.image for one in drawn))
    kept = [one for one in drawn if one.image not in bad]
    if not kept:
        raise UserError(f"{pictures.folder}: none of the images of {path} can be read")
    return kept, left_out | {"image cannot be read": len(drawn) - len(kept)}


def _zeros(shapes: Params) -> Params:
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _reads(settings: Lora) -> tuple[str, ...]:
    return (settings.conversations,)


ATTACK = Attack(settings=Lora, weights=adapt, reads=_reads, planned=planned)
