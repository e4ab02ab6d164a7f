"""What is in the images: COCO 2014 annotations, or a plain list of categories an image."""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sare_jax.errors import UserError
from sare_jax.files import parse_json, read_json, read_text
from sare_jax.language.words import WordTable, categories_in, coco_table
from sare_jax.records.reading_cache import reduced
from sare_jax.schema import LARGEST, whole_number

__all__ = ["Truth", "listed_truth", "read_truth"]

_LAST_NUMBER = re.compile(r"(\d+)(?:\.\w+)?$")


@dataclass(frozen=True, eq=False)
class Truth:
    """The ground truth of a set of images.

    Attributes:
      instances: categories annotated in each image, by image id, in the order of the annotations.
      references: reference captions by image id.
      files: image file name by image id, where known.
      table: vocabulary that reference captions are read with.
      source: where the truth comes from.
      partial: what it lacks; empty when CHAIR's rule (instances and captions together) is met.
    """

    instances: dict[int, tuple[str, ...]]
    references: dict[int, tuple[str, ...]]
    files: dict[int, str]
    table: WordTable
    source: str
    partial: tuple[str, ...] = ()
    _categories: dict[int, tuple[str, ...]] = field(default_factory=dict, repr=False)
    _ids: dict[str, int] = field(default_factory=dict, repr=False)

    @property
    def image_ids(self) -> list[int]:
        """All image ids, in the order of the source."""
        return list(self.instances)

    def categories(self, image_id: int) -> frozenset[str]:
        """Everything in the image: its instances and the objects in all its reference captions (CHAIR)."""
        if image_id not in self._categories:
            named = [
                mention.category
                for caption in self.references.get(image_id, ())
                for mention in categories_in(caption, self.table)
            ]
            # Kept as a tuple, which takes a fifth of the memory of a set.
            self._categories[image_id] = tuple({*self.instances[image_id], *named})
        return frozenset(self._categories[image_id])

    def resolve(self, name: Any) -> int | None:
        """The image id meant by an int, a numeral, a zero-padded name or a file name; None if unknown."""
        if isinstance(name, bool):
            return None
        if isinstance(name, float) and name.is_integer():
            name = int(name)
        if isinstance(name, int):
            return name if name in self.instances else None
        if not isinstance(name, str):
            return None
        stem = Path(name.strip()).name
        if not self._ids:
            self._ids.update({file: image_id for image_id, file in self.files.items()})
        if stem in self._ids:
            return self._ids[stem]
        image_id = _last_number(stem)
        return image_id if image_id in self.instances else None

    def resolve_all(self, names: Iterable[Any]) -> list[int]:
        """`resolve` for many.

        Raises:
          UserError: lists the names that belong to no image of the truth.
        """
        names = list(names)
        image_ids = [self.resolve(name) for name in names]
        unknown = [str(name) for name, image_id in zip(names, image_ids, strict=True) if image_id is None]
        if unknown:
            shown = ", ".join(unknown[:20]) + (", …" if len(unknown) > 20 else "")
            raise UserError(
                f"{self.source}: no annotation for {len(unknown)} image(s): {shown}; "
                "give the annotations of the split that holds them"
            )
        return [image_id for image_id in image_ids if image_id is not None]

    def describe(self) -> dict[str, Any]:
        """How the truth was made, for result files."""
        if self.references:
            rule = "instances and reference captions"
        else:
            rule = "instances only" if self.partial else "categories as listed"
        return {
            "source": Path(self.source).name,
            "images": len(self.instances),
            "rule": rule,
            "partial": list(self.partial),
        }


def read_truth(path: Path | str, table: WordTable | None = None) -> Truth:
    """Reads ground truth.

    Args:
      path: a folder with `instances_*.json` and `captions_*.json` in COCO 2014 format (all splits found are
        read; the files may stand in a subfolder `annotations`), or a JSON file {image id: [category, …]}
        that holds instances and reference captions together.
      table: vocabulary; the COCO table where none is given.

    Raises:
      UserError: nothing found, or a file is not in the format; names it.

    Warns:
      UserWarning: captions are missing, so that the truth is partial.
    """
    path, table = Path(path), table or coco_table()
    if path.is_dir():
        return _read_folder(path, table)
    content = read_json(path)
    if not isinstance(content, dict) or "annotations" in content:
        raise UserError(f"{path}: expected {{image id: [category, …]}}; for COCO give the annotations folder")
    return listed_truth(content, str(path), table)


def listed_truth(listed: Mapping[Any, Any], source: str, table: WordTable | None = None) -> Truth:
    """Ground truth from a list of categories an image, which holds instances and captions together.

    Args:
      listed: image id, or a name that ends in it, → list of categories.
      source: where it comes from, for messages.
      table: vocabulary; the COCO table where none is given.

    Raises:
      UserError: an entry is none of these, or two are of one image; names it.
    """
    table, instances, files = table or coco_table(), dict[int, tuple[str, ...]](), dict[int, str]()
    for key, names in listed.items():
        image_id = _last_number(str(key))
        if image_id is None or not isinstance(names, list | tuple):
            raise UserError(f"{source}: entry {key!r} is not an image id with a list of categories")
        if image_id in instances:
            raise UserError(f"{source}: entry {key!r} is image {image_id} again; keep one entry an image")
        instances[image_id] = tuple(dict.fromkeys(_fold(str(n), table, source) for n in names))
        if not str(key).isdigit():
            files[image_id] = str(key)
    return Truth(instances, {}, files, table, source)


def _fold(name: str, table: WordTable, source: Path | str) -> str:
    category = table.fold(name)
    if category is None:
        raise UserError(f"{source}: category {name!r} is not in the word table {table.source}; add it there")
    return category


def _read_folder(folder: Path, table: WordTable) -> Truth:
    found = sorted(folder.glob("instances_*.json")) or sorted(folder.glob("annotations/instances_*.json"))
    if not found:
        raise UserError(f"{folder}/instances_*.json: no such file; give the folder of the COCO annotations")
    instances: dict[int, tuple[str, ...]] = {}
    references: dict[int, tuple[str, ...]] = {}
    files: dict[int, str] = {}
    partial = []
    for path in found:
        names, categories = _read_instances(path, table)
        for image_id in names.keys() & files.keys():
            if names[image_id] != files[image_id]:
                raise UserError(f"{path}: image id {image_id} also stands in another split; keep ids unique")
        files.update(names)
        instances.update(categories)
        captions = path.with_name(path.name.replace("instances_", "captions_", 1))
        if captions.is_file():
            references.update(_read_references(captions))
        else:
            partial.append(f"{captions.name} is missing: objects that only references name count as invented")
    for lack in partial:
        warnings.warn(f"PARTIAL GROUND TRUTH: {folder}: {lack}", stacklevel=3)
    return Truth(instances, references, files, table, str(folder), tuple(partial))


def _read_instances(path: Path, table: WordTable) -> tuple[dict[int, str], dict[int, tuple[str, ...]]]:
    content = reduced(path, _instances)
    folded = {name: _fold(name, table, path) for name in content["categories"]}
    names = {int(image_id): file for image_id, file in content["files"].items()}
    return names, {
        int(image_id): tuple(dict.fromkeys(folded[name] for name in categories))
        for image_id, categories in content["instances"].items()
    }


def _instances(path: Path) -> dict[str, Any]:
    """Of an instances file: all category names, the images' files, and the names annotated in each."""
    content = parse_json(_without_outlines(read_text(path)), path, _keeping("image_id", "category_id"))
    try:
        files = {_id(image["id"]): _text(image["file_name"]) for image in content["images"]}
        names = {_id(category["id"]): _text(category["name"]) for category in content["categories"]}
        found: dict[int, dict[str, None]] = {image_id: {} for image_id in files}
        for number, annotation in enumerate(content["annotations"]):
            image_id, category_id = map(_id, _kept(annotation, "image_id", "category_id"))
            if image_id not in found or category_id not in names:
                of = f"image {image_id}" if image_id not in found else f"category {category_id}"
                raise ValueError(f"annotation {number} is of {of}, which the file does not list")
            found[image_id][names[category_id]] = None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not in COCO instances format ({_reason(error)})") from None
    return {
        "categories": list(names.values()),
        "files": {str(image_id): file for image_id, file in files.items()},
        "instances": {str(image_id): list(categories) for image_id, categories in found.items()},
    }


def _without_outlines(text: str) -> str:
    """An instances file without the outlines, nine tenths of its text, which cost most of the time to parse.

    An outline is numbers and brackets, so it ends before the next quotation mark; where a brace comes first
    it was the last entry of its object, and stays.
    """
    key = '"segmentation":'
    kept, position = [], 0
    while (start := text.find(key, position)) >= 0:
        end = text.find('"', start + len(key))
        value = text[start + len(key) : end].strip() if end >= 0 else ""
        outline = value.startswith("[") and value.endswith("],") and "}" not in value
        kept.append(text[position : start if outline else start + len(key)])
        position = end if outline else start + len(key)
    kept.append(text[position:])
    return "".join(kept)


def _read_references(path: Path) -> dict[int, tuple[str, ...]]:
    return {int(image_id): tuple(texts) for image_id, texts in reduced(path, _references).items()}


def _references(path: Path) -> dict[str, list[str]]:
    """Of a captions file: the captions by image id."""
    content = parse_json(read_text(path), path, _keeping("image_id", "caption"))
    found: dict[str, list[str]] = {}
    try:
        for annotation in content["annotations"]:
            image_id, caption = _kept(annotation, "image_id", "caption")
            found.setdefault(str(_id(image_id)), []).append(caption.strip())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not in COCO captions format ({_reason(error)})") from None
    return found


def _keeping(*keys: str) -> Callable[[list[tuple[str, Any]]], Any]:
    """Reduces, while a file is parsed, objects that have these keys to a tuple of their values.

    Of half a million annotations it takes a third of the memory.
    """

    def reduce(pairs: list[tuple[str, Any]]) -> Any:
        entry = dict(pairs)
        return tuple(entry[key] for key in keys) if all(key in entry for key in keys) else entry

    return reduce


def _kept(annotation: Any, *keys: str) -> tuple[Any, ...]:
    """What `_keeping` left of an annotation.

    Raises:
      KeyError: it lacks a key.
    """
    return annotation if isinstance(annotation, tuple) else tuple(annotation[key] for key in keys)


def _last_number(name: str) -> int | None:
    """The number at the end of a name, before its suffix; None where there is none of 64 bits."""
    found = _LAST_NUMBER.search(name)
    return whole_number(found[1]) if found else None


def _id(value: Any) -> int:
    number = whole_number(value) if isinstance(value, str) else value
    if type(number) is not int or abs(number) > LARGEST:
        raise ValueError(f"the id {str(value)[:80]!r} is no whole number of 64 bits")
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"the name {str(value)[:80]!r} is no text")
    return value


def _reason(error: Exception) -> str:
    return f"no entry {error}" if isinstance(error, KeyError) else str(error)
