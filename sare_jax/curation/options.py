"""Command-line options of curation: one for each setting, and the files of captions, images and truth."""

import argparse
import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from sare_jax import files
from sare_jax.curation.kept import kept_beside
from sare_jax.curation.truth import Marks, Truth, coco_truth, plain_captions, read_marks
from sare_jax.data.images import MOST_PIXELS
from sare_jax.errors import UserError
from sare_jax.settings import CurateConfig
from sare_jax.settings.building import build, has_kinds, kinds_of, merged
from sare_jax.settings.documentation import meanings


def add_data(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the input files (captions, images, truth or labels) and of the output folder."""
    add = parser.add_argument
    add(
        "--captions", type=Path, help="captions: JSON lines with image and caption, or lines `image ### text`"
    )
    add("--images", type=Path, required=True, help="folder of the images")
    add("--out", type=Path, required=True, help="folder to write; scores are kept in .NAME_work beside it")
    about = "width times height of the largest image that is read"
    add("--max-pixels", type=int, default=MOST_PIXELS, help=f"{about}. Default: {MOST_PIXELS}.")
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument("--truth", type=Path, help="COCO annotations folder, or JSON {id: [category, …]}")
    truth.add_argument("--labels", type=Path, help="captions with marks: {in the image}, [not in it]")


def add_settings(
    parser: argparse.ArgumentParser,
    *,
    only: Collection[str] = (),
    without: Collection[str] = (),
    kinds: Collection[str] = (),
    start: Mapping[str, Any] = types.MappingProxyType({}),
) -> None:
    """Adds an option for each field of `CurateConfig`; its help is the text beside the field.

    A field `top_patches` becomes `--top-patches`, a key of the thresholds `--thresholds.q1`.

    Args:
      parser: parser that the options are added to.
      only: names of the fields that get an option; empty gives every field one.
      without: names of fields that get none.
      kinds: kinds of thresholds that the command can take; empty allows all.
      start: field → the command's own default, shown in the help.
    """
    hints, about = typing.get_type_hints(CurateConfig), meanings(CurateConfig)
    for field in dataclasses.fields(CurateConfig):
        if (only and field.name not in only) or field.name in without:
            continue
        hint = hints[field.name]
        if has_kinds(hint):
            members = {
                name: member for name, member in kinds_of(hint).items() if name in (kinds or kinds_of(hint))
            }
            _add_kinds(parser, field.name, members, about[field.name])
        else:
            default = start.get(field.name, field.default)
            _add(parser, field.name, hint, f"{about[field.name]} Default: {_told(default)}.")


def settings_of(
    given: argparse.Namespace, start: Mapping[str, Any] = types.MappingProxyType({})
) -> CurateConfig:
    """Builds the settings of curation from parsed options.

    Args:
      given: parsed options of a parser that `add_settings` was called with.
      start: field → the command's own default, taken where no option is given.

    Raises:
      UserError: a value is out of range, or belongs to another kind of thresholds; names the key.
    """
    fields = {field.name for field in dataclasses.fields(CurateConfig)}
    values: dict[str, Any] = {}
    for option, value in vars(given).items():
        name, _, key = option.partition(".")
        if name in fields:
            values = merged(values, {name: {key: value} if key else value})
    return build(CurateConfig, merged(dict(start), values), "curate")


def captions_of(given: argparse.Namespace) -> Path:
    """The captions' file; those of the labels, without their marks, where none is given.

    Raises:
      UserError: neither `--captions` nor `--labels` is given.
    """
    if given.captions is not None:
        return given.captions
    if given.labels is None:
        raise UserError("--captions is missing; name the file of the captions")
    path = kept_beside(given.out) / "captions.jsonl"
    files.write_jsonl(path, plain_captions(given.labels))
    return path


def truth_of(given: argparse.Namespace) -> Truth | Marks | None:
    """The truth that the options name; None where they name none.

    Raises:
      UserError: the annotations or labels cannot be read.
    """
    if given.labels is not None:
        return read_marks(given.labels)
    return coco_truth(given.truth) if given.truth is not None else None


def _add_kinds(parser: argparse.ArgumentParser, name: str, members: Mapping[str, type], meaning: str) -> None:
    """Adds an option for the kind, if there are several, and one for each key of each kind."""
    if len(members) > 1:
        _add(parser, f"{name}.kind", Literal[tuple(members)], f"{meaning} Default: {next(iter(members))}.")
    for kind, member in members.items():
        hints, about = typing.get_type_hints(member), meanings(member)
        for field in dataclasses.fields(member):
            if field.name != "kind":
                text = f"Kind {kind}: {about[field.name]} Default: {_told(field.default)}."
                _add(parser, f"{name}.{field.name}", hints[field.name], text)


def _add(parser: argparse.ArgumentParser, name: str, hint: Any, text: str) -> None:
    """Adds one option, which is absent from the result where it is not given."""
    choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else None
    parser.add_argument(
        f"--{name.replace('_', '-')}",
        dest=name,
        type=type(choices[0]) if choices else hint,
        choices=choices,
        metavar=None if choices else name.rpartition(".")[2].upper(),
        default=argparse.SUPPRESS,
        help=text.replace("%", "%%"),
    )


def _told(default: object) -> object:
    """The default as a help text shows it: `none` for an empty text."""
    return "none" if default == "" else default
