"""mPLUG-Owl's prompt: pieces of text, each tokenised by itself, around the image and before the answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sare_jax.errors import UserError
from sare_jax.models.mplug_owl.source import OwlSource
from sare_jax.models.shared.answer_end import AnswerEnd
from sare_jax.models.shared.pieces import PieceTokenizer, Span

IMAGE = "<image>"
BEFORE = (
    "The following is a conversation between a curious human and AI assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.\nHuman: "
)
BETWEEN, AFTER = "\nHuman: ", "\nAI: "
# Borders of pieces besides the image and the answer: none when the published model answers; in its training
# data each of these is a piece of its own. Keys are values of `model.template`.
_ANSWERING, _TRAINING = "", "owl_roles_apart"
BORDERS = {_ANSWERING: "", _TRAINING: "(AI: |\nHuman: )"}


@dataclass(frozen=True)
class OwlPrompter:
    """Tokenizer and prompt form of one model (see `interface.Prompter`).

    Attributes:
      pieces: the LLaMA's tokenizer.
      borders: regular expression of the parts of a text that are tokenised by themselves; empty for none.
      image_token_id: the id that stands in every image slot.
    """

    pieces: PieceTokenizer
    borders: str
    image_token_id: int

    @classmethod
    def from_source(cls, source: OwlSource, template: str = _ANSWERING) -> "OwlPrompter":
        """Reads tokenizer.model.

        Args:
          source: the base model, whose folder holds tokenizer.model.
          template: empty, or `owl_roles_apart` as in the published training.

        Raises:
          UserError: there is no such template; or as in `PieceTokenizer.read`.
        """
        if template not in BORDERS:
            raise UserError(
                f"config.model.template: is {template!r}, need '' or {_TRAINING!r} for an mPLUG-Owl"
            )
        config = source.config
        pieces = PieceTokenizer.read(source.folder, config.text.vocab_size)
        return cls(pieces, BORDERS[template], config.image_token_id)

    @property
    def tokenizer(self) -> Any:
        """A `tokenizers.Tokenizer`."""
        return self.pieces.tokenizer

    @property
    def num_tokens(self) -> int:
        """Entries of the tokenizer."""
        return self.pieces.num_tokens

    @property
    def eos_id(self) -> int:
        """Ends an answer."""
        return self.pieces.eos_id

    @property
    def answer_end(self) -> AnswerEnd:
        """The end token."""
        return AnswerEnd((self.eos_id,))

    @property
    def pad_id(self) -> int:
        """The unknown piece; padding is masked, whatever it is."""
        return self.pieces.unknown_id

    @property
    def identity(self) -> dict[str, Any]:
        """All that the tokens depend on."""
        form = (BEFORE, BETWEEN, AFTER, self.borders)
        return {"tokenizer": self.pieces.digest, "template": form}

    def prompt(self, instruction: str, num_image_tokens: int) -> list[int]:
        """Token ids of an instruction about one image, up to where the answer starts; one BOS comes first.

        Raises:
          UserError: the instruction names the image itself.
        """
        if IMAGE in instruction:
            raise UserError(
                f"the instruction {instruction[:60]!r} names {IMAGE}; leave it out, the template has it"
            )
        slots = [self.image_token_id] * num_image_tokens
        behind = self._cut(f"{BETWEEN}{instruction}{AFTER}")
        return self.pieces.encode([[self.pieces.bos_id], *self._cut(BEFORE), slots, *behind])

    def answer(
        self, instruction: str, text: str, spans: Sequence[Span], *, eos: bool, num_image_tokens: int
    ) -> tuple[list[int], list[Span]]:
        """Token ids of instruction and answer, and where spans of the answer lie among them.

        Args:
          instruction: the user's text, without the image.
          text: the answer; it is tokenised by itself.
          spans: (start, end) in characters of `text`.
          eos: whether the answer is whole, so that the end token follows it.
          num_image_tokens: image slots that the image takes.

        Returns:
          ids, and for each span the (start, end) of its tokens in ids.

        Raises:
          UserError: the instruction names the image itself, or a span lies outside the text.
        """
        prompt = self.prompt(instruction, num_image_tokens)
        ids, places = self.pieces.answer(text, spans, [self.eos_id] * eos)
        return prompt + ids, [(len(prompt) + start, len(prompt) + end) for start, end in places]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids; special tokens are left out."""
        return self.pieces.decode(ids)

    def _cut(self, text: str) -> list[str]:
        return re.split(self.borders, text) if self.borders else [text]
