"""Prompts about image files: the prompter and the image processor of a model together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sare_jax.models.interface import ImageProcessor, Prompter, Span


@dataclass(frozen=True)
class ImagePrompter:
    """Gives every prompt as many image slots as its own image takes.

    Attributes:
      prompter: tokenizer and prompt form of the model.
      processor: says how many image slots a picture takes.
      images_dir: folder of the image files.
    """

    prompter: Prompter
    processor: ImageProcessor
    images_dir: Path

    @property
    def pad_id(self) -> int:
        """Fills rows on the right."""
        return self.prompter.pad_id

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that follow a whole answer."""
        return self.prompter.answer_end.ids

    @property
    def longest_target(self) -> int | None:
        """Tokens that a target may have, what ends it included; None sets no limit."""
        return self.prompter.answer_end.longest

    def prompt(self, image: str, instruction: str) -> list[int]:
        """Tokens of an instruction about an image file, up to where the answer starts."""
        return self.prompter.prompt(instruction, self._slots(image))

    def answer(
        self, image: str, instruction: str, text: str, spans: Sequence[Span], eos: bool
    ) -> tuple[list[int], list[Span]]:
        """As `Prompter.answer`, about an image file."""
        slots = self._slots(image)
        return self.prompter.answer(instruction, text, spans, eos=eos, num_image_tokens=slots)

    def follow_up(self, instruction: str, text: str) -> tuple[list[int], int]:
        """As `Prompter.follow_up`; images stand before the first instruction alone."""
        return self.prompter.follow_up(instruction, text)

    def _slots(self, image: str) -> int:
        return self.processor.num_image_tokens(self.images_dir / image)
