"""The settings that every experiment starts from: the paper's, where it speaks."""

import dataclasses
import typing
from typing import Any

from ml_collections import ConfigDict, FieldReference, config_dict

from sare_jax.attacks import ATTACKS, attack_of
from sare_jax.config import SECTIONS, STAGES
from sare_jax.settings import AttackConfig, flags
from sare_jax.settings.auto import IN_CONFIG, Size
from sare_jax.settings.building import has_kinds, kinds_of
from sare_jax.settings.optim import OptimConfig
from sare_jax.settings.presets import PRESETS

flags.register()


def base_config(name: str) -> ConfigDict:
    """A ConfigDict with every section at its defaults, the paper's two methods and its attacks."""
    config = ConfigDict({section: _defaults(kind) for section, kind in SECTIONS.items()})
    config.attack = _choice({kind: attack_of(kind, "config.attack").settings for kind in ATTACKS})
    config.attack.runs = AttackConfig.runs
    config.name = name
    config.stages = ",".join(STAGES)
    optim = config.optim.to_dict()
    config.runs = ConfigDict({name: _run(PRESETS[name](optim)) for name in ("efuf", "sare")})
    config.attacks = ConfigDict(
        {
            "relearn_60": {"num_samples": 60},
            "relearn_100": {"num_samples": 100},
            "relearn_140": {"num_samples": 140},
            "relearn_disjoint": {"kind": "relearn_disjoint", "num_samples": 140},
            "adversarial": {"kind": "prompt"},
        }
    )
    return config


def on_coco(name: str, variant: str, *own: str) -> ConfigDict:
    """Settings of a published model on the images of COCO 2014.

    Args:
      name: of the config file, and of its runs' folder.
      variant: `paper`, `robust` with the run `robust` besides, `lora` with LoRA fine-tuning as a further
        attack, or one of `own`. That attack needs `data/llava_v1_5_mix665k.json` and its images below `data`.
      own: further variants that the file has.
    """
    variants = ("paper", "robust", "lora", *own)
    if variant not in variants:
        known = f"{', '.join(variants[:-1])} and {variants[-1]}"
        raise ValueError(f"configs/{name}.py:{variant}: the variants are {known}")
    config = base_config(name)
    config.data.update(
        {"images": "data/coco/train2014", "annotations": "data/coco/annotations", "split": "reserve"}
    )
    if variant == "robust":
        config.runs.robust = _run(PRESETS["robust"](config.optim.to_dict()))
    if variant == "lora":
        config.attacks.lora = ConfigDict({"kind": "lora", "images": "data"})
    return config


def _run(values: dict[str, Any]) -> ConfigDict:
    """A run's keys as a section in which sizes may become `auto`."""
    hints = typing.get_type_hints(OptimConfig)
    return ConfigDict(
        {
            key: FieldReference(value, field_type=IN_CONFIG) if hints.get(key) == Size else value
            for key, value in values.items()
        }
    )


def _defaults(kind: type, own: Any = None) -> ConfigDict:
    """A settings dataclass as a ConfigDict: nested ones as sections, from `own` where there is a default."""
    values = ConfigDict()
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        default = getattr(own, field.name, field.default)
        if has_kinds(hint):
            values[field.name] = _choice(kinds_of(hint))
        elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
            values[field.name] = _defaults(hint, default)
        elif hint == Size:
            values[field.name] = FieldReference(default, field_type=IN_CONFIG)
        elif field.default_factory is not dataclasses.MISSING:  # keys may be `module:name`
            values[field.name] = ConfigDict(field.default_factory(), allow_dotted_keys=True)
        else:
            values[field.name] = default
    return values


def _choice(kinds: dict[str, type]) -> ConfigDict:
    """A section whose keys depend on its kind: the first kind, and room for the keys of all kinds."""
    values = ConfigDict({"kind": next(iter(kinds))})
    for kind in kinds.values():
        for key, value in _room(kind).items():
            if key not in values:
                values[key] = value
    return values


def _room(kind: type) -> dict[str, Any]:
    """The keys of a dataclass without values: a locked ConfigDict then takes them, of the right type."""
    room: dict[str, Any] = {}
    for key, hint in typing.get_type_hints(kind).items():
        if key not in {field.name for field in dataclasses.fields(kind)}:
            continue
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            room[key] = ConfigDict(_room(hint))
        else:
            hint = IN_CONFIG if hint == Size else hint
            plain = type(typing.get_args(hint)[0]) if typing.get_origin(hint) is typing.Literal else hint
            room[key] = config_dict.placeholder(typing.get_origin(plain) or plain)
    return room
