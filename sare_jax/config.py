"""The settings of a run: typed, frozen, checked once.

`configs/*.py` return a locked `ml_collections.ConfigDict`; `parse` turns it into the dataclasses below, and
library code sees these alone. Keys, defaults and meanings are listed in the README; the defaults are the
paper's (A.3) where it speaks.
"""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from sare_jax.errors import UserError

STAGES = ("prepare", "caption", "curate", "unlearn", "evaluate", "attack", "export", "report")
BASE_RUN = "base"
ORIGIN = "origin"


@dataclass(frozen=True)
class DataConfig:
    """Where images and annotations lie and how they are split.

    Attributes:
      prepare: `module:function` that makes the data when they are not there; empty where they are.
      prepare_args: keyword arguments of that function.
      root: folder that `prepare` fills; empty means `data` in the workdir.
      images: image folder; relative names are taken from `root`.
      annotations: folder of COCO 2014 `instances_*.json` and `captions_*.json`; relative as above.
      split: `files` where the annotation files are named train, val and test; `reserve` draws
        `reserve_validation` and `reserve_test` images at random and leaves the rest for training (A.1).
      reserve_validation, reserve_test: numbers of images to set aside (A.1: 1,600 each).
      max_train_images: use that many training images at most; 0 is all.
    """

    prepare: str = ""
    prepare_args: dict = field(default_factory=dict)
    root: str = ""
    images: str = "images"
    annotations: str = "annotations"
    split: Literal["files", "reserve"] = "reserve"
    reserve_validation: int = 1600
    reserve_test: int = 1600
    max_train_images: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """The model to unlearn.

    Attributes:
      folder: Hugging Face folder, or a model id whose snapshot lies in the local hub cache.
      dtype: of the frozen weights; the trainable ones are always float32.
      trainable: regular expression on Flax paths: the mapping layers.
      template: prompt form, `vicuna_v1` with the system sentence or `hub` without.
      image_mode: `auto` follows the checkpoint, `pad` and `center_crop` force one.
      feature_cache_gib: vision features that are kept in host memory, in GiB.
      data_parallel: devices for the data axis; 0 is all.
    """

    folder: str = ""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    trainable: str = "projector/.*"
    template: Literal["vicuna_v1", "hub"] = "vicuna_v1"
    image_mode: Literal["auto", "pad", "center_crop"] = "auto"
    feature_cache_gib: float = 2.0
    data_parallel: int = 0


@dataclass(frozen=True)
class CaptionConfig:
    """How the original model describes the training images (stage 1)."""

    prompt: str = "Please describe the image in no more than 50 words. Make sure to be brief and concise."
    max_new_tokens: int = 200
    batch_size: int = 16


@dataclass(frozen=True)
class CurateConfig:
    """How captions become D_neg, D_pos and D_sent (stage 2; protocols of EFUF).

    Attributes:
      clip: open_clip model name, or `local-dir:` and a folder.
      clip_pretrained: pretrained tag of a named model.
      mode: `windows` scores patches by the windows over them, `whole` scores the image.
      patch: side of a patch in pixels.
      window: side of a window in patches.
      top_patches: patches whose mean is the object's score.
      rule: sentence rule: `paper` (mean score) or `efuf` (mean and minimum).
      thresholds: `fixed` takes t0, t1, t2; `quantile` takes the scores' quantiles q0, q1, q2.
      t0, t1, t2: S > t0 is grounded, S < t1 hallucinated, S(y) > t2 a reliable caption.
      q0, q1, q2: the same as quantiles of the object scores (q0, q1) and of the caption scores (q2).
      conflicts: what becomes of a piece that holds a grounded and a hallucinated object.
      image_batch: images whose windows are scored together.
    """

    clip: str = "ViT-B-32-quickgelu"
    clip_pretrained: str = "openai"
    mode: Literal["windows", "whole"] = "windows"
    patch: int = 48
    window: int = 4
    top_patches: int = 4
    rule: Literal["paper", "efuf"] = "paper"
    thresholds: Literal["fixed", "quantile"] = "fixed"
    t0: float = 32.0
    t1: float = 23.0
    t2: float = 27.5
    q0: float = 0.5
    q1: float = 0.1
    q2: float = 0.5
    conflicts: Literal["keep", "drop", "neg_wins"] = "keep"
    image_batch: int = 16


@dataclass(frozen=True)
class OptimConfig:
    """One unlearning run (stage 3). `runs` overrides single keys of the shared values.

    Attributes:
      objective: erasing loss L_neg: `ascent` is the paper's −L_ft, `unlikelihood` is −log(1 − P(cur(o))).
      rho: radius ρ of the Targeted-SAM perturbation; 0 is Eq. 1, the EFUF baseline.
      neg_weight: λ₁.
      sent_weight: λ₂.
      learning_rate, weight_decay: of AdamW; the rate is constant.
      epochs: passes over D_neg; used where `steps` is 0.
      steps: optimizer steps; 0 derives them from `epochs`.
      batch_size: samples of each of D_neg, D_pos and D_sent in a step, over all devices.
      micro_batches: parts in which a step's gradients are accumulated.
      checkpoint_every: steps between checkpoints; 0 saves the last alone.
      instruction: the prompt of the training samples (protocols 1.1).
      seed: of the sample order.
    """

    objective: Literal["ascent", "unlikelihood"] = "ascent"
    rho: float = 0.05
    neg_weight: float = 0.3
    sent_weight: float = 0.2
    learning_rate: float = 1e-5
    weight_decay: float = 0.05
    epochs: float = 1.0
    steps: int = 0
    batch_size: int = 8
    micro_batches: int = 1
    checkpoint_every: int = 200
    instruction: str = "Please describe the image."
    seed: int = 0


@dataclass(frozen=True)
class EvaluateConfig:
    """How a model is measured (stage 4).

    Attributes:
      split: images that are used, `val` for choosing settings and `test` once at the end.
      prompt: the describing prompt (paper, Figs. 6–7).
      max_images: images at most; 0 is the whole split.
      max_new_tokens, batch_size: of the captions.
      pope_images: images that POPE asks about, each for three present and three absent objects; 0 leaves
        POPE out.
      pope_batch_size: questions a batch.
      pope_prompt: the question, `{}` stands for it.
      lm: folder or id of the GPT-2 model of the perplexity.
      bootstrap: draws of the 95 % intervals.
    """

    split: Literal["val", "test"] = "test"
    prompt: str = "Please describe the image in great detail. Your response should have at least 100 words."
    max_images: int = 0
    max_new_tokens: int = 200
    batch_size: int = 16
    pope_images: int = 500
    pope_batch_size: int = 64
    pope_prompt: str = "{}"
    lm: str = "gpt2"
    bootstrap: int = 1000


@dataclass(frozen=True)
class AttackConfig:
    """One attack (stage 5). `attacks` overrides single keys of the shared values.

    Attributes:
      kind: `relearn` tunes the mapping layers on D_neg by plain L_ft; `prompt` only asks differently.
      num_samples: D_neg samples of a relearning, nested by seed.
      learning_rate, weight_decay: of AdamW.
      batch_size: samples a step; one pass.
      seed: of the nested subsets.
      prompt: what a prompt attack asks for (Appendix C).
      runs: comma-separated runs that are attacked; empty is all that the kind applies to.
    """

    kind: Literal["relearn", "prompt"] = "relearn"
    num_samples: int = 60
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    batch_size: int = 4
    seed: int = 0
    prompt: str = (
        "Please provide a comprehensive description of the image. Systematically list all the clearly "
        "identifiable objects you see, ensuring you do not overlook any distinct items."
    )
    runs: str = ""


@dataclass(frozen=True)
class ExportConfig:
    """Which run is written as a Hugging Face folder (stage 6), and how many captions are compared.

    Attributes:
      run: name of the run.
      check_captions: images on which transformers has to give the same greedy captions; 0 skips the check.
    """

    run: str = "sare"
    check_captions: int = 0


@dataclass(frozen=True)
class ReportConfig:
    """What the report shows besides the table (stage 7).

    Attributes:
      subject: one or two sentences on model and data, for the head of the page.
      baseline, ours: the two runs that are held against each other.
      landscape_images: images of each CHAIR value along ±ε* and a random direction; 0 leaves it out.
      landscape_radius: half-width of the scan, in units of the weights' L2 norm change.
      landscape_points: points along each direction, odd so that the solution itself is one.
      matched: compare the two runs at equal CHAIR_S and at equal length, by their checkpoints.
      matched_attack: name of the attack used in that comparison.
      gallery: images in the gallery.
      selection: JSON file that tells how settings were chosen on validation images; empty for none.
    """

    subject: str = ""
    baseline: str = "efuf"
    ours: str = "sare"
    landscape_images: int = 0
    landscape_radius: float = 1.0
    landscape_points: int = 9
    matched: bool = False
    matched_attack: str = "relearn_140"
    gallery: int = 12
    selection: str = ""


@dataclass(frozen=True)
class Config:
    """Everything of one invocation of `main.py`.

    Attributes:
      name: of the experiment; the default workdir is `runs/<name>`.
      stages: comma-separated stages to run, in the order of the road.
      runs: name → the optimizer settings of that unlearning run.
      run_labels: name → how tables call it.
      attacks: name → the settings of that attack.
    """

    name: str
    stages: tuple[str, ...]
    data: DataConfig
    model: ModelConfig
    caption: CaptionConfig
    curate: CurateConfig
    evaluate: EvaluateConfig
    export: ExportConfig
    report: ReportConfig
    runs: dict[str, OptimConfig]
    run_labels: dict[str, str]
    attacks: dict[str, AttackConfig]


def parse(raw: dict) -> Config:
    """Makes the typed settings from a plain nested dictionary (`ConfigDict.to_dict()`).

    Args:
      raw: sections as in `Config`, with `optim` and `attack` for the values that `runs` and `attacks` share.

    Raises:
      UserError: a key is unknown, missing or of the wrong type, or a value is out of range; names the key.
    """
    known = {f.name for f in dataclasses.fields(Config)} | {"optim", "attack"}
    _refuse_unknown(raw, known, "config")
    optim, attack = raw.get("optim", {}), raw.get("attack", {})
    runs, labels = {}, {}
    for name, overrides in raw.get("runs", {}).items():
        overrides = dict(overrides)
        labels[name] = overrides.pop("label", name)
        runs[name] = build(OptimConfig, {**optim, **overrides}, f"config.runs.{name}")
    attacks = {
        name: build(AttackConfig, {**attack, **overrides}, f"config.attacks.{name}")
        for name, overrides in raw.get("attacks", {}).items()
    }
    if "name" not in raw:
        raise UserError("config.name: missing; give the experiment a name")
    config = Config(
        name=raw["name"],
        stages=_stages(raw.get("stages", ",".join(STAGES))),
        data=build(DataConfig, raw.get("data", {}), "config.data"),
        model=build(ModelConfig, raw.get("model", {}), "config.model"),
        caption=build(CaptionConfig, raw.get("caption", {}), "config.caption"),
        curate=build(CurateConfig, raw.get("curate", {}), "config.curate"),
        evaluate=build(EvaluateConfig, raw.get("evaluate", {}), "config.evaluate"),
        export=build(ExportConfig, raw.get("export", {}), "config.export"),
        report=build(ReportConfig, raw.get("report", {}), "config.report"),
        runs=runs,
        run_labels={BASE_RUN: "base model", **labels},
        attacks=attacks,
    )
    _check(config)
    return config


def build(kind: type, values: dict, where: str) -> Any:
    """Makes one settings dataclass from a dictionary, checking names and types.

    Args:
      kind: the dataclass.
      values: its fields; the ones left out keep their defaults.
      where: name of the section, for messages.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    _refuse_unknown(values, set(fields), where)
    hints = typing.get_type_hints(kind)
    return kind(**{key: _typed(value, hints[key], f"{where}.{key}") for key, value in values.items()})


def to_dict(config: Config) -> dict:
    """The resolved settings as plain JSON-able values."""
    return dataclasses.asdict(config) | {"stages": ",".join(config.stages)}


def _typed(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise UserError(f"{where}: {value!r} is not one of {', '.join(map(repr, choices))}")
        return value
    if isinstance(hint, types.GenericAlias):
        hint = typing.get_origin(hint)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UserError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def _refuse_unknown(values: dict, known: set[str], where: str) -> None:
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            advice = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(sorted(known))}"
            raise UserError(f"{where}.{key}: unknown key; {advice}")


def _stages(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in STAGES:
            raise UserError(f"config.stages: unknown stage {name!r}; the stages are {', '.join(STAGES)}")
    if not names:
        raise UserError(f"config.stages: empty; the stages are {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in names)


def _check(config: Config) -> None:
    """Refuses values that could only fail later."""
    if not config.model.folder:
        raise UserError("config.model.folder: empty; set it with --config.model.folder=FOLDER_OR_HUB_ID")
    for name in (*config.runs, *config.attacks):
        if name in (BASE_RUN, ORIGIN) or "/" in name or not name:
            raise UserError(f"config.runs, config.attacks: the name {name!r} is reserved or not usable")
    for name, run in config.runs.items():
        where = f"config.runs.{name} (or config.optim)"
        _at_least(run.rho, 0, f"{where}.rho")
        _at_least(run.neg_weight, 0, f"{where}.neg_weight")
        _at_least(run.sent_weight, 0, f"{where}.sent_weight")
        _at_least(run.batch_size, 1, f"{where}.batch_size")
        _at_least(run.micro_batches, 1, f"{where}.micro_batches")
        if run.batch_size % run.micro_batches:
            raise UserError(f"{where}.micro_batches: must divide batch_size {run.batch_size}")
        if run.steps <= 0 and run.epochs <= 0:
            raise UserError(f"{where}.epochs: must be above 0 where steps is 0")
    for name, attack in config.attacks.items():
        _at_least(attack.num_samples, 1, f"config.attacks.{name}.num_samples")
        _at_least(attack.batch_size, 1, f"config.attacks.{name}.batch_size")
        for run in split_names(attack.runs):
            if run not in (BASE_RUN, *config.runs):
                raise UserError(f"config.attacks.{name}.runs: no run is called {run!r}")
    if "{}" not in config.evaluate.pope_prompt:
        raise UserError("config.evaluate.pope_prompt: must hold {} where the question goes")
    for key in ("max_new_tokens", "batch_size", "pope_batch_size"):
        _at_least(getattr(config.evaluate, key), 1, f"config.evaluate.{key}")
    if "export" in config.stages and config.export.run not in config.runs:
        raise UserError(
            f"config.export.run: no run is called {config.export.run!r}; "
            f"the runs are {', '.join(config.runs)}"
        )


def _at_least(value: float, least: float, where: str) -> None:
    if value < least:
        raise UserError(f"{where}: must be at least {least}, got {value}")


def split_names(text: str) -> list[str]:
    """Names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]
