"""The settings of a run: typed, frozen, checked once.

`configs/*.py` return a locked `ml_collections.ConfigDict`; `parse` turns it into the dataclasses of
`sare_jax.settings`, and library code sees these alone.
"""

import dataclasses

from sare_jax.errors import UserError
from sare_jax.settings import (
    CAPTION_PROMPTS,
    AttackConfig,
    CaptionConfig,
    Config,
    CurateConfig,
    DataConfig,
    DecodingConfig,
    EvaluateConfig,
    ExportConfig,
    ModelConfig,
    OptimConfig,
    ReportConfig,
)
from sare_jax.settings.building import above_zero, at_least, build, refuse_unknown

STAGES = ("prepare", "caption", "curate", "unlearn", "evaluate", "attack", "export", "report")
BASE_RUN = "base"
ORIGIN = "origin"


def parse(raw: dict) -> Config:
    """Makes the typed settings from a plain nested dictionary (`ConfigDict.to_dict()`).

    Args:
      raw: sections as in `Config`, with `optim` and `attack` for the values that `runs` and `attacks` share.

    Raises:
      UserError: a key is unknown, missing or of the wrong type, or a value is out of range; names the key.
    """
    known = {f.name for f in dataclasses.fields(Config)} | {"optim", "attack"}
    refuse_unknown(raw, known, "config")
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
        caption=_named_prompt(build(CaptionConfig, raw.get("caption", {}), "config.caption")),
        decoding=build(DecodingConfig, raw.get("decoding", {}), "config.decoding"),
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


def to_dict(config: Config) -> dict:
    """The resolved settings as plain JSON-able values."""
    return dataclasses.asdict(config) | {"stages": ",".join(config.stages)}


def _named_prompt(caption: CaptionConfig) -> CaptionConfig:
    """With the prompt in full where a preset is named."""
    return dataclasses.replace(caption, prompt=CAPTION_PROMPTS.get(caption.prompt, caption.prompt))


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
        at_least(run.rho, 0, f"{where}.rho")
        at_least(run.neg_weight, 0, f"{where}.neg_weight")
        at_least(run.sent_weight, 0, f"{where}.sent_weight")
        above_zero(run.npo_beta, f"{where}.npo_beta")
        at_least(run.sam_eta, 0, f"{where}.sam_eta")
        at_least(run.sam_steps, 1, f"{where}.sam_steps")
        at_least(run.sam_refresh_every, 1, f"{where}.sam_refresh_every")
        at_least(run.batch_size, 1, f"{where}.batch_size")
        at_least(run.micro_batches, 1, f"{where}.micro_batches")
        if run.batch_size % run.micro_batches:
            raise UserError(f"{where}.micro_batches: must divide batch_size {run.batch_size}")
        if run.steps <= 0 and run.epochs <= 0:
            raise UserError(f"{where}.epochs: must be above 0 where steps is 0")
    for name, attack in config.attacks.items():
        at_least(attack.num_samples, 1, f"config.attacks.{name}.num_samples")
        at_least(attack.batch_size, 1, f"config.attacks.{name}.batch_size")
        for run in split_names(attack.runs):
            if run not in (BASE_RUN, *config.runs):
                raise UserError(f"config.attacks.{name}.runs: no run is called {run!r}")
    at_least(config.model.fsdp, 1, "config.model.fsdp")
    at_least(config.model.data_parallel, 0, "config.model.data_parallel")
    at_least(config.decoding.num_beams, 1, "config.decoding.num_beams")
    at_least(config.decoding.temperature, 0, "config.decoding.temperature")
    at_least(config.decoding.top_k, 0, "config.decoding.top_k")
    if not 0 < config.decoding.top_p <= 1:
        raise UserError(f"config.decoding.top_p: must be above 0 and at most 1, got {config.decoding.top_p}")
    if "" in config.decoding.stop:
        raise UserError("config.decoding.stop: holds an empty string, which would end every answer")
    if config.decoding.num_beams > 1 and config.decoding.temperature > 0:
        raise UserError("config.decoding.temperature: beams are not drawn; set it to 0, or num_beams to 1")
    if config.data.split == "efuf" and not config.data.used:
        raise UserError("config.data.used: empty; name the file of the training images, as objects.txt")
    if "export" in config.stages and config.export.run not in config.runs:
        raise UserError(
            f"config.export.run: no run is called {config.export.run!r}; "
            f"the runs are {', '.join(config.runs)}"
        )


def split_names(text: str) -> list[str]:
    """Names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]
