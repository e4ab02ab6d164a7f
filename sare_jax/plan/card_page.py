"""The page that `main.py --plan --plan_gpu=CARD` prints: a run on cards that need not be there."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sare_jax.models.families import find_family
from sare_jax.models.shared import partition
from sare_jax.plan import bounds, compiled
from sare_jax.plan.answers import CAPTION_TURNS
from sare_jax.plan.bounds import SPARE, TYPICAL, Bound
from sare_jax.plan.cards import Card, card_named, described, require_dtype
from sare_jax.plan.compiled import Program
from sare_jax.plan.facts import Facts, facts_of
from sare_jax.plan.hlo import BACKWARD, FORWARD
from sare_jax.plan.planned import IMAGES, NEGATIVES, TEST_IMAGES, Planned, Scale
from sare_jax.plan.programs import programs
from sare_jax.plan.work import work_of
from sare_jax.settings.road import Config
from sare_jax.training.sharding import DATA, FSDP, make_mesh

Answers = Callable[[Program, int], Facts]
"""A program, and the turns of its decoding loop → what the card's compiler says."""

_COMPILING = "is being compiled for the card, which may take minutes"
_JAX_TAKES = 0.75  # share of a card's memory that JAX takes unless it is told otherwise
_ALIKE = f"""\
Seconds are bounds: matrix products at the card's dense peak, memory and links at their rates, all
overlapping, nothing else counted. No program is that fast; beside them stands the time at {TYPICAL:.0%} of
these peaks. Where data alone would tell, {IMAGES:,} images to caption, {NEGATIVES:,} negatives and
{TEST_IMAGES:,} test images are assumed, and {CAPTION_TURNS} tokens until the last caption of a batch ends."""


def plan_card(config: Config, name: str, count: int, folder: Path, with_largest: bool) -> None:
    """Prints memory, kernels, collectives and bounds of seconds of every program of the chosen stages.

    Args:
      config: settings that a run would have.
      name: short name of the card.
      count: number of cards; 0 takes as many as `model.data_parallel` and `model.fsdp` ask for.
      folder: where answers of the compiler are kept.
      with_largest: whether the largest batch that fits is searched too, which compiles each program again
        several times.

    Raises:
      UserError: the card is not known, the CUDA wheels are lacking, the model's shapes are not known, or the
        mesh does not fit the devices.
    """
    card = card_named(name)
    require_dtype(card, config.model.dtype)
    parallel, fsdp = config.model.data_parallel, config.model.fsdp
    mesh = make_mesh(parallel, fsdp, described(card, count or max(parallel, 1) * fsdp))
    family = find_family(config.model)
    model_config, where = family.config_of(config.model)
    shapes = family.shape(model_config)
    model = compiled.abstract_model(family, model_config, config.model, mesh)
    print(f"{config.model.folder}: shapes from {where}; no weights are read\n")
    print(partition.table(model.params, model.frozen))
    print(
        f"\n{mesh.size} × {card.name}, {_gb(card.memory)} each, {card.dense / 1e12:.0f} TFLOP/s in "
        f"{card.dense_dtype}, {card.bandwidth / 1e9:,.0f} GB/s, {card.link_name} {card.link / 1e9:.0f} GB/s: "
        f"{DATA} {mesh.shape[DATA]} × {FSDP} {mesh.shape[FSDP]}\n{_ALIKE}",
        flush=True,
    )
    answers = partial(facts_of, card=card.target_config(), folder=folder)
    hours: dict[str, float] = {}
    peaks: list[int] = []
    lower: list[str] = []
    for planned in programs(config, shapes, model, mesh):
        number = _number(planned, card, answers)
        print(f"\n{planned.about(number)}\n  {_COMPILING}", flush=True)
        program = planned.scale.make(number)
        facts = answers(program, planned.turns)
        bound = bounds.bound_of(
            work_of(program.jaxpr, mesh.size, planned.turns), facts.deeds, card, mesh.size
        )
        print("\n".join(f"  {line}" for line in lines(facts, bound, card)), flush=True)
        peaks.append(facts.peak)
        if not bounds.fits(facts.peak, card):
            lower.append(way_out(planned, number))
        if with_largest:
            for scale in (planned.scale, planned.beams(number) if planned.beams else None):
                if scale and len(scale.candidates) > 1 and not scale.is_auto:
                    print(f"  {_largest(planned, scale, card, answers)}", flush=True)
        for stage, times in planned.times(number).items():
            hours[stage] = hours.get(stage, 0.0) + times * bound.seconds * mesh.size / 3600
    print(f"\n{summary(hours, peaks, lower, card, config.model.quantization)}")


def _number(planned: Planned, card: Card, answers: Answers) -> int:
    """The value of a program's scale: what the settings say, or what fits where they leave it to memory."""
    scale = planned.scale
    if not scale.is_auto:
        return scale.value
    print(f"\n{planned.name}: {scale.key}=auto is looked for\n  {_COMPILING}", flush=True)
    return scale.candidates[max(0, _last(planned, scale, card, answers))]


def way_out(planned: Planned, number: int) -> str:
    """What to set so that a program that does not fit takes less."""
    key, more = planned.scale.key, planned.way_out
    if len(planned.scale.candidates) > 1 and not planned.scale.is_auto:
        found = "" if more else "; auto finds what fits"
        more = f"{key} (now {number}: {planned.name}{found})" + (f", or {more}" if more else "")
    return more or f"{planned.name} takes its least already" + (f" ({key})" if key else "")


def lines(facts: Facts, bound: Bound, card: Card) -> list[str]:
    """What is said of one program, a line each."""
    verdict = "fits" if bounds.fits(facts.peak, card) else "DOES NOT FIT"
    made, seconds = facts.deeds, bound.seconds
    flash = f"{made.kernels.get(FORWARD, 0)} forward, {made.kernels.get(BACKWARD, 0)} backward"
    others = sum(calls for name, calls in made.kernels.items() if name not in (FORWARD, BACKWARD))
    told = [
        f"memory: {_gb(facts.peak)} a device = {_gb(facts.resident)} weights, state and batch + "
        f"{_gb(facts.temporary)} temporary; {verdict} with {SPARE:.0%} of {_gb(card.memory)} to spare",
        f"kernels: cuDNN's flash attention {flash}; {others} other library calls",
    ]
    for kind, each in sorted(made.collectives.items()):
        told.append(
            f"{kind}: {each.calls} calls, {_gb(each.bytes)} a run, the largest {each.largest / 1e6:.1f} MB"
        )
    if made.host:
        told.append(f"transfers to or from the host inside the program: {len(made.host)}")
    told.append(
        f"bound: at least {_seconds(seconds)} a run, by {bound.limit} (products {_seconds(bound.products)}, "
        f"memory {_seconds(bound.memory)}, links {_seconds(bound.links)}); {_seconds(seconds / TYPICAL)} at "
        f"{TYPICAL:.0%}"
    )
    told.append(f"compiled in {facts.seconds:.0f} s")
    return told


def summary(
    hours: dict[str, float], peaks: list[int], lower: list[str], card: Card, quantization: str
) -> str:
    """GPU hours of each stage, what to lower, and what share of memory JAX is to take."""
    told = [
        f"{stage}: at least {number:.2f} GPU hours, {number / TYPICAL:.2f} at {TYPICAL:.0%} of the peaks"
        for stage, number in hours.items()
    ]
    if lower:
        smaller = ", set config.model.quantization=int8" if quantization == "none" else ""
        told.append(
            f"does not fit; lower {'; '.join(lower)}{smaller}, or divide the weights: config.model.fsdp"
        )
        return "\n".join(told)
    share = math.ceil(20 * max(peaks, default=0) * (1 + SPARE) / card.memory) / 20
    if share > _JAX_TAKES:
        told.append(
            f"JAX takes {_JAX_TAKES:.0%} of a card by itself, which is too little: set "
            f"XLA_PYTHON_CLIENT_MEM_FRACTION={min(share, 0.95):.2f}"
        )
    else:
        told.append(
            f"XLA_PYTHON_CLIENT_MEM_FRACTION={share:.2f} is enough and leaves "
            f"{_gb(int(card.memory * (1 - share)))} of the card to PyTorch (CLIP, GPT-2)"
        )
    return "\n".join(told)


def _largest(planned: Planned, scale: Scale, card: Card, answers: Answers) -> str:
    place = _last(planned, scale, card, answers)
    key = f" ({scale.key})" if scale.key else ""
    if place < 0:
        return f"not even a {scale.what} of {scale.candidates[0]} fits{key}"
    last = " or more" if place == len(scale.candidates) - 1 else ""
    return f"the largest {scale.what} that fits, to within an eighth: {scale.candidates[place]}{last}{key}"


def _last(planned: Planned, scale: Scale, card: Card, answers: Answers) -> int:
    """Place of the last candidate that fits; −1 where none does."""

    def peak(place: int) -> float:
        return answers(scale.make(scale.candidates[place]), planned.turns).peak

    start = scale.candidates.index(scale.value)
    return bounds.last_fitting(peak, (1 - SPARE) * card.memory, len(scale.candidates), start)


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 10 else f"{value:.2f} s" if value >= 0.1 else f"{1e3 * value:.2f} ms"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
