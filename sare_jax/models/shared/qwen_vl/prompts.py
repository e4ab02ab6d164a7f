"""The Qwen-VLs' chat: turns between `<|im_start|>` and `<|im_end|>`, the image before the instruction."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from sare_jax.errors import UserError
from sare_jax.models.shared.answer_end import AnswerEnd
from sare_jax.models.shared.pieces import Span, check_span, token_border, token_ends
from sare_jax.schema import checked, read_object

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
IMAGE, BEFORE_IMAGE, BEHIND_IMAGE = "<|image_pad|>", "<|vision_start|>", "<|vision_end|>"
_CONTROLS = (START, END, PAD, IMAGE, BEFORE_IMAGE, BEHIND_IMAGE)


@dataclass(frozen=True)
class QwenPrompter:
    """Tokenizer, chat form and image slots of one model (see `interface.Prompter`).

    Text never turns into control tokens: an `<|im_end|>` that somebody typed is ten characters.

    Attributes:
      tokenizer: reads every special token as plain text.
      system: the system's sentence before all turns; empty for none.
      controls: control token -> its id.
      num_tokens: entries of the tokenizer; the model has some rows more, which are never generated.
    """

    tokenizer: Tokenizer
    system: str
    controls: dict[str, int]
    num_tokens: int

    @classmethod
    def read(cls, folder: Path, system: str, image_token_id: int, rows: int) -> "QwenPrompter":
        """Reads tokenizer.json.

        Args:
          folder: the model's folder.
          system: the system's sentence.
          image_token_id: what the model's config takes for the image token.
          rows: number of rows of the embedding table.

        Raises:
          UserError: the file is missing or broken, lacks a control token, has another image token, or more
            tokens than the model has rows.
        """
        path = Path(folder) / "tokenizer.json"
        raw = read_object(path)
        # Offsets are those of the text, and nothing is added: the form is put together here.
        raw |= {"post_processor": None, "truncation": None, "padding": None}
        added = checked(raw.get("added_tokens") or [], list[dict[str, Any]], f"{path}: added_tokens")
        for entry in added:
            if entry.get("content") in _CONTROLS:
                entry["special"] = True
        raw["added_tokens"] = added
        try:
            tokenizer = Tokenizer.from_str(json.dumps(raw))
        except Exception as error:  # the library has no type of its own
            raise UserError(f"{path}: not a tokenizer ({error}); download it again") from None
        known = tokenizer.get_vocab()
        if missing := [name for name in _CONTROLS if name not in known]:
            raise UserError(f"{path}: lacks {', '.join(missing)}, so it is no tokenizer of a Qwen-VL")
        if known[IMAGE] != image_token_id:
            raise UserError(f"{path}: {IMAGE} is {known[IMAGE]}, but image_token_id {image_token_id}")
        if max(known.values()) >= rows:
            raise UserError(f"{path}: has {max(known.values()) + 1} tokens, but the model {rows} rows")
        tokenizer.encode_special_tokens = True
        controls = {name: known[name] for name in _CONTROLS}
        return cls(tokenizer, system, controls, max(known.values()) + 1)

    @property
    def image_token_id(self) -> int:
        """The id in every image slot."""
        return self.controls[IMAGE]

    @property
    def eos_id(self) -> int:
        """The token that ends a turn."""
        return self.controls[END]

    @property
    def pad_id(self) -> int:
        """Fills rows on the right."""
        return self.controls[PAD]

    @property
    def answer_end(self) -> AnswerEnd:
        """The token that ends a turn."""
        return AnswerEnd((self.eos_id,))

    @property
    def identity(self) -> dict[str, Any]:
        """All that the tokens depend on."""
        digest = hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest()
        return {"tokenizer": digest, "template": self.system, "controls": self.controls}

    def prompt(self, instruction: str, num_image_tokens: int) -> list[int]:
        """Token ids of an instruction about one image, up to where the answer starts.

        Raises:
          UserError: the instruction names the image itself.
        """
        self._check_unnamed(instruction)
        slots = [self.image_token_id] * num_image_tokens
        image = [self.controls[BEFORE_IMAGE], *slots, self.controls[BEHIND_IMAGE]]
        system = [*self._turn("system", [], self.system), *self._encode("\n")] if self.system else []
        return [*system, *self._turn("user", image, instruction), *self._answering()]

    def answer(
        self, instruction: str, text: str, spans: Sequence[Span], *, eos: bool, num_image_tokens: int
    ) -> tuple[list[int], list[Span]]:
        """Token ids of instruction and answer, and where spans of the answer lie among them.

        The answer is tokenised by itself, behind the line break that ends `<|im_start|>assistant`: the model
        writes it from there on.

        Args:
          instruction: the user's text, without the image.
          text: the answer.
          spans: (start, end) in characters of `text`.
          eos: whether the answer is whole, so that the token that ends a turn follows.
          num_image_tokens: image slots that the image takes.

        Returns:
          ids, and for each span the (start, end) of its tokens in ids; see `token_border` for tokens that
          straddle a border.

        Raises:
          UserError: the instruction names the image itself, or a span lies outside the text.
        """
        prompt = self.prompt(instruction, num_image_tokens)
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        ends, places = token_ends(encoding.offsets), []
        for start, stop in spans:
            check_span(start, stop, text)
            first = token_border(ends, start) if start else 0
            last = len(ends) + eos if stop == len(text) else token_border(ends, stop)
            places.append((len(prompt) + first, len(prompt) + last))
        return [*prompt, *encoding.ids, *[self.eos_id] * eos], places

    def follow_up(self, instruction: str, text: str) -> tuple[list[int], int]:
        """Token ids of a further instruction and its answer, behind an answer and the end of its turn.

        Returns:
          ids, and the index of the answer's first token among them.

        Raises:
          UserError: the instruction names the image.
        """
        self._check_unnamed(instruction)
        asked = [*self._encode("\n"), *self._turn("user", [], instruction), *self._answering()]
        return asked + self._encode(text), len(asked)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids; special tokens are left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def _turn(self, role: str, image: list[int], text: str) -> list[int]:
        """A turn and its end; behind an image the text is a piece of its own."""
        pieces = [self._encode(f"{role}\n"), image, self._encode(text)]
        if not image:
            pieces = [self._encode(f"{role}\n{text}")]
        return [self.controls[START], *(token for piece in pieces for token in piece), self.controls[END]]

    def _answering(self) -> list[int]:
        return [*self._encode("\n"), self.controls[START], *self._encode("assistant\n")]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def _check_unnamed(self, instruction: str) -> None:
        for name in (IMAGE, BEFORE_IMAGE, BEHIND_IMAGE):
            if name in instruction:
                raise UserError(
                    f"the instruction {instruction[:60]!r} names {name}; leave it out, the template has it"
                )
