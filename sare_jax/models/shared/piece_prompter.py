"""Prompts made of pieces: the texts around the image, and the answer, each tokenised by itself."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sare_jax.errors import UserError
from sare_jax.models.shared.answer_end import AnswerEnd
from sare_jax.models.shared.pieces import PieceTokenizer, Span


@dataclass(frozen=True)
class PromptForm:
    """The texts around image and instruction.

    Attributes:
      image: how the lineage's texts name the image, which an instruction must not do.
      before: text before the image.
      between: text between image and instruction.
      after: text behind the instruction, where the answer begins.
      again: text before a further instruction, behind an answer and what ended it.
      borders: regular expression of parts of these texts that are tokenised by themselves; empty for none.
      end: text that ends an answer; empty for the end token.
    """

    image: str
    before: str
    between: str
    after: str
    again: str
    borders: str = ""
    end: str = ""


@dataclass(frozen=True)
class PiecePrompter:
    """Tokenizer and prompt form of one model (see `interface.Prompter`).

    Text never turns into control tokens: an `</s>` that somebody typed is five characters.

    Attributes:
      pieces: the LLaMA's tokenizer.
      form: the texts around image and instruction.
      image_token_id: the id that stands in every image slot.
      answer_end: how answers end: with the end token, or with the form's text.
    """

    pieces: PieceTokenizer
    form: PromptForm
    image_token_id: int
    answer_end: AnswerEnd

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
        """The end token; answers need not end with it (`answer_end`)."""
        return self.pieces.eos_id

    @property
    def pad_id(self) -> int:
        """The unknown piece; padding is masked, whatever it is."""
        return self.pieces.unknown_id

    @property
    def identity(self) -> dict[str, Any]:
        """All that the tokens depend on."""
        form = self.form
        texts = (form.before, form.between, form.after, form.borders or form.end)
        return {"tokenizer": self.pieces.digest, "template": texts}

    def prompt(self, instruction: str, num_image_tokens: int) -> list[int]:
        """Token ids of an instruction about one image, up to where the answer starts; one BOS comes first.

        Raises:
          UserError: the instruction names the image itself.
        """
        form = self.form
        self._check_unnamed(instruction)
        slots = [self.image_token_id] * num_image_tokens
        behind = self._cut(f"{form.between}{instruction}{form.after}")
        return self.pieces.encode([[self.pieces.bos_id], *self._cut(form.before), slots, *behind])

    def answer(
        self, instruction: str, text: str, spans: Sequence[Span], *, eos: bool, num_image_tokens: int
    ) -> tuple[list[int], list[Span]]:
        """Token ids of instruction and answer, and where spans of the answer lie among them.

        Args:
          instruction: the user's text, without the image.
          text: the answer; it is tokenised by itself.
          spans: (start, end) in characters of `text`.
          eos: whether the answer is whole, so that the tokens that end it follow.
          num_image_tokens: image slots that the image takes.

        Returns:
          ids, and for each span the (start, end) of its tokens in ids.

        Raises:
          UserError: the instruction names the image itself, or a span lies outside the text.
        """
        prompt = self.prompt(instruction, num_image_tokens)
        ids, places = self.pieces.answer(text, spans, self.answer_end.ids if eos else ())
        return prompt + ids, [(len(prompt) + start, len(prompt) + end) for start, end in places]

    def follow_up(self, instruction: str, text: str) -> tuple[list[int], int]:
        """Token ids of a further instruction and its answer, each a piece of its own.

        Returns:
          ids, and the index of the answer's first token among them.

        Raises:
          UserError: the instruction names the image.
        """
        self._check_unnamed(instruction)
        asked = self.pieces.encode(self._cut(f"{self.form.again}{instruction}{self.form.after}"))
        return asked + self.pieces.answer(text, ())[0], len(asked)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids; special tokens are left out."""
        return self.pieces.decode(ids)

    def _check_unnamed(self, instruction: str) -> None:
        if self.form.image in instruction:
            raise UserError(
                f"the instruction {instruction[:60]!r} names {self.form.image}; leave it out, the template "
                "has it"
            )

    def _cut(self, text: str) -> list[str]:
        return re.split(self.form.borders, text) if self.form.borders else [text]
