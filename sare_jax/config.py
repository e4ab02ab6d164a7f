"""The settings of a run: typed, frozen, checked once.

`configs/*.py` return a locked `ml_collections.ConfigDict`; `parse` turns it into the dataclasses of
`sare_jax.settings`, and library code sees these alone.
"""

import dataclasses
import typing
from collections.abc import Collection

from sare_jax.attacks import ATTACKS, attack_of
from sare_jax.errors import UserError
from sare_jax.settings import CAPTION_PROMPTS, AttackConfig, CaptionConfig
from sare_jax.settings.building import (
    at_least,
    build,
    given,
    has_kinds,
    keys_of,
    kinds_of,
    merged,
    refuse_unknown,
    section,
    typed,
)
from sare_jax.settings.names import can_name_a_file
from sare_jax.settings.optim import OptimConfig
from sare_jax.settings.road import Config
from sare_jax.settings.shared import refuse_unused
from sare_jax.suggestions import MEMBER

STAGES = ("prepare", "caption", "curate", "unlearn", "evaluate", "attack", "export", "report")
BASE_RUN = "base"
ORIGIN = "origin"
SECTIONS: dict[str, type] = {
    name: kind
    for name, kind in typing.get_type_hints(Config).items()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind)
}
"""Sections of a config that are made into one dataclass, by name."""

_ATTACK_KEYS = ("kind", "runs")  # of every attack, whatever its kind
_OF_BASE = ("instruction",)  # shared values that attacks on the base model take, whatever the runs have


def parse(raw: dict, chosen: Collection[str] = ()) -> Config:
    """Makes the typed settings from a plain nested dictionary (`ConfigDict.to_dict()`).

    Args:
      raw: sections as in `Config`, with `optim` and `attack` for the values that `runs` and `attacks` share.
      chosen: dotted keys, such as `optim.rho`, that somebody asked for: those of a command line.

    Raises:
      UserError: a key is unknown, missing or of the wrong type, a value is out of range, or a shared value
        was set that every run or attack overrides; names the key.
    """
    raw = section(raw, "config")
    known = {f.name for f in dataclasses.fields(Config)} - {"run_labels"} | {"attack"}
    refuse_unknown(raw, known, "config")
    sections = {name: build(kind, raw.get(name, {}), f"config.{name}") for name, kind in SECTIONS.items()}
    sections["caption"] = _named_prompt(sections["caption"])
    runs, labels, own = {}, {}, {}
    shared = section(raw.get("optim", {}), "config.optim")
    for name, overrides in section(raw.get("runs", {}), "config.runs").items():
        overrides = dict(section(overrides, f"config.runs.{name}"))
        labels[name] = typed(overrides.pop("label", name), str, f"config.runs.{name}.label")
        runs[name] = build(OptimConfig, merged(shared, overrides), f"config.runs.{name}")
        own[name] = overrides
    refuse_unused(
        {key: value for key, value in shared.items() if key not in _OF_BASE},
        dataclasses.asdict(OptimConfig()),
        own,
        {name: dataclasses.asdict(run) for name, run in runs.items()},
        ("config.optim", "config.runs"),
        chosen,
    )
    if "name" not in raw:
        raise UserError("config.name: missing; give the experiment a name")
    config = Config(
        name=typed(raw["name"], str, "config.name"),
        stages=_stages(typed(raw.get("stages", ",".join(STAGES)), str, "config.stages")),
        **sections,
        runs=runs,
        run_labels={BASE_RUN: "base model", **labels},
        attacks=_attacks(
            given(section(raw.get("attack", {}), "config.attack")),
            section(raw.get("attacks", {}), "config.attacks"),
            chosen,
        ),
    )
    _check(config)
    return config


def to_dict(config: Config) -> dict:
    """The resolved settings as plain JSON-able values, with the keys that a config file has."""
    values = dataclasses.asdict(config) | {"stages": ",".join(config.stages)}
    for attack in values["attacks"].values():
        attack |= attack.pop("settings")
    return values


def parse_saved(saved: dict) -> Config:
    """The settings that a workdir's `config.json` holds, as `to_dict` made them."""
    raw = _with_tuples(saved)
    labels = raw.pop("run_labels", {})
    raw["runs"] = {name: {**run, "label": labels.get(name, name)} for name, run in raw["runs"].items()}
    return parse(raw)


def _with_tuples(value: typing.Any) -> typing.Any:
    """The value with tuples in place of lists, which is what JSON makes of them."""
    if isinstance(value, dict):
        return {key: _with_tuples(inner) for key, inner in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def renamed_keys() -> dict[str, str]:
    """Every key that has another name now: `curate.t0` → `curate.thresholds.t0`."""
    attacks = (attack_of(kind, "config.attack").settings for kind in ATTACKS)
    kinds = [*SECTIONS.items(), *(("attack", kind) for kind in attacks)]
    return {old: new for section, kind in kinds for old, new in _renamed(kind, section).items()}


def known_keys() -> list[str]:
    """Every dotted key of a config, those of runs and attacks with NAME in place of their name."""
    attacks = [AttackConfig, *(attack_of(kind, "config.attack").settings for kind in ATTACKS)]
    kinds = [*SECTIONS.items(), (f"runs.{MEMBER}", OptimConfig)]
    kinds += [(name, kind) for name in ("attack", f"attacks.{MEMBER}") for kind in attacks]
    keys = ["name", "stages", *(key for name, kind in kinds for key in keys_of(kind, name))]
    return [key for key in dict.fromkeys(keys) if not key.endswith(".settings")]


def _renamed(kind: typing.Any, where: str) -> dict[str, str]:
    """The keys of a settings dataclass, or of the members of a union, that have another name now."""
    if has_kinds(kind):
        return {
            old: new for member in kinds_of(kind).values() for old, new in _renamed(member, where).items()
        }
    if not dataclasses.is_dataclass(kind):
        return {}
    hints = typing.get_type_hints(kind)
    found = {f"{where}.{old}": f"{where}.{new}" for old, new in getattr(kind, "RENAMED", {}).items()}
    for field in dataclasses.fields(kind):
        found |= _renamed(hints[field.name], f"{where}.{field.name}")
    return found


def _attacks(shared: dict, named: dict[str, dict], chosen: Collection[str]) -> dict[str, AttackConfig]:
    """Each attack by its kind's dataclass; a shared value reaches the kinds that have such a key.

    Raises:
      UserError: among others, a shared key that no attack has, or that all that have it override.
    """
    attacks: dict[str, AttackConfig] = {}
    known, renamed = set(_ATTACK_KEYS), dict[str, str]()
    for name, overrides in named.items():
        where = f"config.attacks.{name}"
        overrides = section(overrides, where)
        common = {key: value for key, value in (shared | overrides).items() if key in _ATTACK_KEYS}
        config = build(AttackConfig, common, where)
        kind = attack_of(config.kind, where).settings
        keys = {field.name for field in dataclasses.fields(kind)}
        known |= keys
        renamed |= getattr(kind, "RENAMED", {})
        reaching = {key: value for key, value in shared.items() if key in keys}
        own = {key: value for key, value in overrides.items() if key not in _ATTACK_KEYS}
        settings = build(kind, merged(reaching, own), where)
        build(kind, reaching, "config.attack")  # a bad value is refused where it is overridden, too
        attacks[name] = dataclasses.replace(config, settings=settings)
    refuse_unknown(shared, known, "config.attack", renamed=renamed)
    made = {name: dataclasses.asdict(attack) for name, attack in attacks.items()}
    made = {name: {**values, **values.pop("settings")} for name, values in made.items()}
    for key, value in shared.items():
        having = [name for name in attacks if key in made[name]]
        refuse_unused(
            {key: value},
            dataclasses.asdict(AttackConfig()),
            {name: named[name] for name in having},
            {name: made[name] for name in having},
            ("config.attack", "config.attacks"),
            chosen,
        )
    return attacks


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
        if name in (BASE_RUN, ORIGIN) or not can_name_a_file(name):
            raise UserError(f"config.runs, config.attacks: the name {name!r} is reserved or not usable")
    for name, attack in config.attacks.items():
        for attacked in split_names(attack.runs):
            if attacked not in (BASE_RUN, *config.runs):
                raise UserError(f"config.attacks.{name}.runs: no run is called {attacked!r}")
    at_least(config.model.fsdp, 1, "config.model.fsdp")
    at_least(config.model.data_parallel, 0, "config.model.data_parallel")
    report = config.report
    if report.matched and report.matched_attack not in config.attacks:
        raise UserError(
            f"config.report.matched_attack: no attack is called {report.matched_attack!r}; "
            f"the attacks are {', '.join(config.attacks)}, and config.report.matched=False leaves it out"
        )
    if "export" in config.stages and config.export.run not in config.runs:
        raise UserError(
            f"config.export.run: no run is called {config.export.run!r}; "
            f"the runs are {', '.join(config.runs)}"
        )


def split_names(text: str) -> list[str]:
    """Names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]
