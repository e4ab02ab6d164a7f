"""MiniGPT-4's two prompt forms (protocols 7.4): each text around the image, and the answer, by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sare_jax.errors import UserError
from sare_jax.models.minigpt4.source import MiniGpt4Source
from sare_jax.models.shared.answer_end import AnswerEnd
from sare_jax.models.shared.pieces import PieceTokenizer, Span

IMAGE = "<ImageHere>"
LONGEST = 160  # tokens of a target, its end included: `max_txt_len` of both published forms


@dataclass(frozen=True)
class Template:
    """A prompt form.

    Attributes:
      before: text before the image.
      between: text between image and instruction.
      after: text behind the instruction, where the answer begins.
      end: text that ends an answer; empty for the end token.
    """

    before: str
    between: str
    after: str
    end: str


LLAMA_2 = Template("[INST] <Img>", "</Img> ", " [/INST]", "")
VICUNA = Template("###Human: <Img>", "</Img> ", " ###Assistant: ", "###")


@dataclass(frozen=True)
class MiniGpt4Prompter:
    """Tokenizer and prompt form of one model (see `interface.Prompter`).

    Text never turns into control tokens: an `</s>` that somebody typed is five characters.

    Attributes:
      pieces: the LLaMA's tokenizer.
      template: the texts around image and instruction.
      image_token_id: the id that stands in every image slot.
      answer_end: how answers end: with the end token, or with the template's text.
    """

    pieces: PieceTokenizer
    template: Template
    image_token_id: int
    answer_end: AnswerEnd

    @classmethod
    def from_source(cls, source: MiniGpt4Source) -> "MiniGpt4Prompter":
        """Reads the tokenizer.model of a base model's LLaMA; errors as in `PieceTokenizer.read`."""
        config = source.config
        pieces = PieceTokenizer.read(source.folder, config.text.vocab_size)
        template = VICUNA if config.qformer else LLAMA_2
        return cls(pieces, template, config.image_token_id, _answer_end(pieces, template.end))

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
        """The end token, which the Vicuna form does not end answers with."""
        return self.pieces.eos_id

    @property
    def pad_id(self) -> int:
        """The unknown piece; padding is masked, whatever it is."""
        return self.pieces.unknown_id

    @property
    def identity(self) -> dict[str, Any]:
        """All that the tokens depend on."""
        form = (self.template.before, self.template.between, self.template.after, self.template.end)
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
        text = f"{self.template.between}{instruction}{self.template.after}"
        return self.pieces.encode([[self.pieces.bos_id], self.template.before, slots, text])

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

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids; special tokens are left out."""
        return self.pieces.decode(ids)


def _answer_end(pieces: PieceTokenizer, end: str) -> AnswerEnd:
    """The end token, or the tokens of a text right behind a word."""
    if not end:
        return AnswerEnd((pieces.eos_id,), longest=LONGEST)
    word = pieces.encode(["a"])
    return AnswerEnd(tuple(pieces.encode([f"a{end}"])[len(word) :]), (end,), LONGEST)
