"""What is in the images, by COCO's categories or by people's marks in captions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sare_jax.curation.captions import Caption, id_of_name
from sare_jax.curation.units import Unit
from sare_jax.errors import UserError
from sare_jax.language.words import categories_in
from sare_jax.records.annotations import Annotated, read_annotations
from sare_jax.records.brackets import Mark
from sare_jax.records.coco import read_truth


@dataclass(frozen=True)
class Truth:
    """What is in the images, by annotated categories.

    Attributes:
      categories: image id → categories that are annotated in the image.
      categories_of: phrase → the annotated categories that it names, in order; empty for a phrase such as
        "wall". The last one counts: a "dog bowl" is a bowl.
    """

    categories: Mapping[int, frozenset[str]]
    categories_of: Callable[[str], Sequence[str]]

    def require(self, captions: Sequence[Caption]) -> None:
        """Refuses images without annotations.

        Raises:
          UserError: names the first image id that the annotations lack.
        """
        lacking = sorted({c.image_id for c in captions if c.image_id not in self.categories})
        if lacking:
            raise UserError(
                f"annotations lack {len(lacking)} of the captioned images, the first is image_id "
                f"{lacking[0]}; give the annotation files of these images"
            )

    def verdict(self, caption: Caption, unit: Unit) -> bool | None:
        """Whether the thing is in the image; None where the annotations cannot tell."""
        named = self.categories_of(unit.object)
        return named[-1] in self.categories[caption.image_id] if named else None


@dataclass(frozen=True)
class Marks:
    """What people marked in some of the captions.

    Attributes:
      marks: (image, caption) → marks; the image as id or file name, the caption with spaces for line ends.
      source: file that they come from.
    """

    marks: Mapping[tuple[int | str, str], tuple[Mark, ...]]
    source: str

    def require(self, captions: Sequence[Caption]) -> None:
        """Refuses marks of which none belongs to these captions.

        Raises:
          UserError: says so.
        """
        if not any(self._of(caption)[0] for caption in captions):
            raise UserError(
                f"{self.source}: none of its {len(self.marks)} marked captions is among the captions; mark "
                "some of the captions that are curated, word for word"
            )

    def verdict(self, caption: Caption, unit: Unit) -> bool | None:
        """Whether people found the thing in the image; None where they marked nothing there.

        Of several marks the one counts that holds the last character of the mention, its head noun.
        """
        marks, shift = self._of(caption)
        head = unit.mention_end - 1 - shift
        verdicts = [mark.verdict for mark in marks if mark.start <= head < mark.end]
        return verdicts[0] == "correct" if verdicts else None

    def _of(self, caption: Caption) -> tuple[tuple[Mark, ...], int]:
        """The marks of a caption, and how many characters were stripped before they were counted."""
        text = _one_line(caption.text)
        for image in (caption.image_id, caption.image):
            for form in (text, text.strip()):
                if (image, form) in self.marks:
                    return self.marks[image, form], text.index(form)
        return (), 0


def coco_truth(path: Path) -> Truth:
    """Truth by COCO annotations: a folder, or JSON {image id: [category, …]}.

    Raises:
      UserError: the annotations cannot be read.
    """
    truth = read_truth(path)
    return Truth({image_id: truth.categories(image_id) for image_id in truth.image_ids}, coco_categories_of)


def coco_categories_of(phrase: str) -> list[str]:
    """The COCO categories that a phrase names, in order, by CHAIR's vocabulary."""
    return [mention.category for mention in categories_in(phrase)]


def read_marks(path: Path) -> Marks:
    """Reads marked captions: lines `image ### {a dog} and [a leash]`, or JSON lines of the annotation page.

    Raises:
      UserError: the file cannot be read, or nothing in it is marked.
    """
    annotated, dropped = read_annotations(path)
    marks = {(_image(a), _one_line(a.caption)): a.marks for a in annotated if a.done and a.marks}
    if not marks:
        raise UserError(f"{path}: holds no marked caption ({dropped.told()})")
    return Marks(marks, str(path))


def plain_captions(path: Path) -> list[dict]:
    """The finished captions of a file of marks, without the marks, as records for a file of captions.

    Raises:
      UserError: the file cannot be read, or nothing in it is finished.
    """
    annotated, dropped = read_annotations(path)
    records = [
        {"image_id" if isinstance(a.image, int) else "image": a.image, "caption": a.caption}
        for a in annotated
        if a.done
    ]
    if not records:
        raise UserError(f"{path}: holds no finished caption ({dropped.told()})")
    return records


def _image(item: Annotated) -> int | str:
    """An image by its COCO id where its name tells one, so that names of both kinds meet."""
    image_id = id_of_name(item.image) if isinstance(item.image, str) else item.image
    return item.image if image_id is None else image_id


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
