"""The sizes of a planned run: what each device holds of a batch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sare_jax.models.interface import ModelShape
from sare_jax.optim import Perturbation
from sare_jax.rounding import round_up
from sare_jax.settings import AttackConfig, CaptionConfig, DecodingConfig, EvaluateConfig
from sare_jax.settings.auto import AUTO, Size
from sare_jax.settings.optim import OptimConfig
from sare_jax.settings.road import Config

# Without captions and tokenizer the lengths of texts are assumed: a prompt with its system sentence, and a
# caption of 50 words, which takes about 75 tokens.
PROMPT_TOKENS = 64
ANSWER_TOKENS = 80
# What a question adds behind what all questions about its image begin with.
QUESTION_TOKENS = 32
# Tokens of the largest target of each set: sub-sentences are short, D_sent holds whole captions.
TARGETS = {"neg": 32, "pos": 32, "sent": ANSWER_TOKENS}
# Units of a packed caption: real ones name about eight objects; a third negative, and the caption itself.
UNITS = {"neg": 3, "pos": 5, "sent": 1}


@dataclass(frozen=True)
class Training:
    """One training step.

    Attributes:
      rows: rows of each of D_neg, D_pos and D_sent in a step, or captions where they are packed; over all
        devices, padding rows included.
      micro_batches: parts of the rows that are run one after the other.
      length: T, tokens of a row.
      remat: what a layer keeps for its backward pass, as `model.remat`: `full`, `dots` or `none`.
      devices: number of devices, each of which holds its own rows.
      packed: whether a row is a caption with all its units.
      perturbation: how ε* is found; None for a step without one, EFUF's.
    """

    rows: int
    micro_batches: int
    length: int
    remat: str
    devices: int
    packed: bool = False
    perturbation: Perturbation | None = Perturbation()

    @property
    def rows_at_once(self) -> int:
        """Rows of each set, or captions, that one device holds at a time."""
        return self.rows // self.devices // self.micro_batches


@dataclass(frozen=True)
class Captioning:
    """One batch of captions, or of answers.

    Attributes:
      rows: images in the batch, over all devices.
      prompt: T, tokens that are read once for each of them, image slots included.
      new: most tokens that are generated for a prompt.
      decoding: decoding settings, of which the number of beams and the cache's format count here.
      devices: number of devices, each of which holds its own rows.
      questions: R, prompts that go on from one reading of an image.
      tail: tokens of each of these behind it; 0 where each image has one prompt.
    """

    rows: int
    prompt: int
    new: int
    decoding: DecodingConfig
    devices: int
    questions: int = 1
    tail: int = 0

    @property
    def rows_at_once(self) -> int:
        """Rows that one device holds."""
        return self.rows // self.devices


def usual(config: Config) -> Config:
    """The settings with the defaults in place of sizes that are `auto`."""
    return _numbered(config, lambda run: 1, CaptionConfig(), EvaluateConfig(), lambda kind: kind.rows_at_once)


def least(config: Config) -> Config:
    """The settings with the numbers that take the least memory in place of sizes that are `auto`."""
    evaluate = EvaluateConfig(batch_size=1, question_batch_size=1)
    caption = CaptionConfig(batch_size=1)
    return _numbered(config, lambda run: run.batch_size, caption, evaluate, lambda kind: 1)


def _numbered(
    config: Config,
    parts: Callable[[OptimConfig], int],
    caption: CaptionConfig,
    evaluate: EvaluateConfig,
    at_once: Callable[[Any], int],
) -> Config:
    """The settings with the sizes of others where they are `auto`."""

    def run(settings: OptimConfig) -> OptimConfig:
        is_auto = settings.micro_batches == AUTO
        return replace(settings, micro_batches=parts(settings)) if is_auto else settings

    def known(size: Size, other: Size) -> Size:
        return other if size == AUTO else size

    def attack(attack: AttackConfig) -> AttackConfig:
        if not rows_are_auto(attack):
            return attack
        rows = at_once(type(attack.settings))
        return replace(attack, settings=replace(attack.settings, rows_at_once=rows))

    asked = config.evaluate
    return replace(
        config,
        caption=replace(config.caption, batch_size=known(config.caption.batch_size, caption.batch_size)),
        evaluate=replace(
            asked,
            batch_size=known(asked.batch_size, evaluate.batch_size),
            question_batch_size=known(asked.question_batch_size, evaluate.question_batch_size),
        ),
        optim=run(config.optim),
        runs={name: run(settings) for name, settings in config.runs.items()},
        attacks={name: attack(settings) for name, settings in config.attacks.items()},
    )


def rows_are_auto(attack: AttackConfig) -> bool:
    """Whether an attack leaves it to memory how many rows a device works on at a time."""
    return getattr(attack.settings, "rows_at_once", 0) == AUTO


def number(size: Size) -> int:
    """A size that is no longer `auto`."""
    assert size != AUTO
    return size


def least_rows(run: OptimConfig) -> int:
    """Rows of a set that a run's step works on together, over all devices; of `auto` the least."""
    return 1 if run.micro_batches == AUTO else run.batch_size // run.micro_batches


def training(config: Config, model: ModelShape, devices: int) -> Training:
    """The largest step among the configured runs."""
    return of_run(_largest_run(config), config.model.remat, model, devices)


def of_run(run: OptimConfig, remat: str, model: ModelShape, devices: int) -> Training:
    """The step of one run.

    Args:
      run: its settings.
      remat: as `model.remat`.
      model: sizes of the language model and of the image features.
      devices: number of devices.
    """
    parts = number(run.micro_batches)
    rows = round_up(run.batch_size, devices * parts)
    packed = run.packing == "packed"
    perturbation = run.sam if run.rho else None
    return Training(rows, parts, length(model), remat, devices, packed, perturbation)


def relearning(rows: int, remat: str, model: ModelShape, devices: int) -> Training:
    """A step of plain fine-tuning on so many units; arguments as in `of_run`."""
    return Training(round_up(rows, devices), 1, length(model), remat, devices, perturbation=None)


def one_row_training(config: Config, model: ModelShape, devices: int) -> Training:
    """One negative, one positive and one sentence a device, or one caption where they are packed."""
    return replace(training(config, model, devices), rows=devices, micro_batches=1)


def captioning(config: Config, model: ModelShape, devices: int) -> Captioning:
    """The largest batch of captions among those of training and evaluation images."""
    return Captioning(
        round_up(max(number(config.caption.batch_size), number(config.evaluate.batch_size)), devices),
        model.num_image_tokens + PROMPT_TOKENS,
        max(config.caption.max_new_tokens, config.evaluate.max_new_tokens),
        config.decoding,
        devices,
    )


def _largest_run(config: Config) -> OptimConfig:
    return max(config.runs.values(), key=lambda run: (least_rows(run), run.rho > 0))


def length(model: ModelShape) -> int:
    """T, tokens of a row with the largest image and texts of the assumed lengths."""
    return round_up(model.num_image_tokens + PROMPT_TOKENS + ANSWER_TOKENS, 8)
