"""Which images are trained on, which choose the settings, and which are looked at once."""

import random
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.records.texts import read_records
from sare_jax.schema import checked

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True)
class Image:
    """An image by its COCO id and its file name in the image folder."""

    id: int
    file: str


@dataclass(frozen=True)
class Splits:
    """Disjoint lists of images, each in order of id."""

    train: tuple[Image, ...]
    val: tuple[Image, ...]
    test: tuple[Image, ...]

    def write(self, path: Path) -> None:
        """Writes ids and file names as JSON."""
        files.write_json(
            path, {name: [[i.id, i.file] for i in getattr(self, name)] for name in ("train", "val", "test")}
        )

    @classmethod
    def read(cls, path: Path) -> "Splits":
        """Reads what `write` wrote."""
        kind = dict[str, list[tuple[int, str]]]
        value = checked(files.read_json(path), kind, str(path))
        if missing := {"train", "val", "test"} - set(value):
            raise UserError(f"{path}: has no {', '.join(sorted(missing))}; run the prepare stage again")
        return cls(**{name: tuple(Image(*pair) for pair in value[name]) for name in ("train", "val", "test")})


@dataclass(frozen=True)
class _CocoImage:
    id: int
    file_name: str


@dataclass(frozen=True)
class _Coco:
    """What is read here of a file in COCO format."""

    images: tuple[_CocoImage, ...]


def from_annotation_files(annotations: Path) -> Splits:
    """Takes the split from the files `instances_train.json`, `…_val.json` and `…_test.json`."""
    return Splits(
        **{name: _listed(annotations / f"instances_{name}.json") for name in ("train", "val", "test")}
    )


def reserve(images: tuple[Image, ...], *, validation: int, test: int, seed: int) -> Splits:
    """Sets images aside at random; the rest is for training (A.1).

    The result depends on the ids and the seed, not on the order of `images`.

    Raises:
      UserError: nothing would be left for training.
    """
    ordered = sorted(images, key=lambda image: image.id)
    if len(ordered) <= validation + test:
        raise UserError(
            f"config.data.reserve_validation + reserve_test = {validation + test}, but there are only "
            f"{len(ordered)} images; lower them or add images"
        )
    drawn = random.Random(seed).sample(range(len(ordered)), validation + test)
    parts = {"val": set(drawn[:validation]), "test": set(drawn[validation:])}
    kept = parts["val"] | parts["test"]
    return Splits(
        train=tuple(image for i, image in enumerate(ordered) if i not in kept),
        val=tuple(image for i, image in enumerate(ordered) if i in parts["val"]),
        test=tuple(image for i, image in enumerate(ordered) if i in parts["test"]),
    )


def first_unused(images: tuple[Image, ...], used: Collection[str], *, validation: int, test: int) -> Splits:
    """EFUF's rule: what was used trains, and the first unused images by file name are set aside.

    EFUF evaluates on the first 1,600 (protocols 1.8); they are the test images here, and the next ones choose
    settings. What remains is in no part.

    Args:
      images: all images.
      used: file names of the training images, with or without folders.
      validation: number of images that choose settings.
      test: number of images that are looked at once.

    Raises:
      UserError: none of the images is used, or too few are not.
    """
    names = {Path(name).name for name in used}
    ordered = sorted(images, key=lambda image: image.file)
    rest = [image for image in ordered if image.file not in names]
    train = [image for image in images if image.file in names]
    if not train:
        raise UserError(
            f"config.data.used: names none of the {len(images)} images, such as {ordered[0].file}"
        )
    if len(rest) < validation + test:
        raise UserError(
            f"config.data.reserve_validation + reserve_test = {validation + test}, but only {len(rest)} "
            "images are not used; lower them or add images"
        )

    def by_id(part: list[Image]) -> tuple[Image, ...]:
        return tuple(sorted(part, key=lambda image: image.id))

    return Splits(by_id(train), by_id(rest[test : test + validation]), by_id(rest[:test]))


def used_images(path: Path) -> set[str]:
    """File names in `image ### …` lines, in JSON lines or in a JSON array with the key `image`.

    Raises:
      UserError: the file is missing or is none of these; names it.
    """
    names = {record["image"] for record in read_records(path)[0] if isinstance(record.get("image"), str)}
    if not names:
        raise UserError(f"{path}: names no image; needs lines `image ### …` or JSON with the key image")
    return names


def in_folder(images: Path, annotations: Path) -> tuple[Image, ...]:
    """The images of a folder that the annotations know.

    Raises:
      UserError: the folder is missing or holds no image, or an image has no entry in the annotations.
    """
    if not images.is_dir():
        raise UserError(f"{images}: no such image folder; set config.data.images")
    names = sorted(p.name for p in images.iterdir() if p.suffix.lower() in SUFFIXES)
    if not names:
        raise UserError(f"{images}: holds no images ({', '.join(SUFFIXES)}); set config.data.images")
    known = {
        image.file: image for path in sorted(annotations.glob("instances_*.json")) for image in _listed(path)
    }
    if not known:
        raise UserError(f"{annotations}: holds no instances_*.json; set config.data.annotations")
    missing = [name for name in names if name not in known]
    if missing:
        raise UserError(
            f"{annotations}: {len(missing)} images of {images} have no entry, the first is {missing[0]}; "
            "add their annotations or take the images away"
        )
    return tuple(known[name] for name in names)


def _listed(path: Path) -> tuple[Image, ...]:
    listed = [
        Image(image.id, image.file_name) for image in checked(files.read_json(path), _Coco, str(path)).images
    ]
    return tuple(sorted(listed, key=lambda image: image.id))
