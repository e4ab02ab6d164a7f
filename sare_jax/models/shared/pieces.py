"""Prompts whose texts are tokenised piece by piece, and where a span of characters lies among tokens.

mPLUG-Owl and MiniGPT-4 hand each text between two images, and the answer, to sentencepiece by itself, so
that each of them starts with its own `▁`. LLaVA's answer is tokenised together with its prompt, so it shares
the rule for spans alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from tokenizers import Tokenizer

from sare_jax.errors import UserError
from sare_jax.models.shared.sentencepiece_bpe import read_sentencepiece

Span = tuple[int, int]


@dataclass(frozen=True)
class PieceTokenizer:
    """A LLaMA's sentencepiece model, and its special tokens.

    Text never turns into special tokens: an `</s>` that somebody typed is five characters.

    Attributes:
      tokenizer: reads every special token as plain text.
      num_tokens: pieces of the vocabulary; ids are below it.
      bos_id: the token that starts a prompt.
      eos_id: the end token.
      unknown_id: the unknown piece, which LLaMA's models take for padding too.
    """

    tokenizer: Tokenizer
    num_tokens: int
    bos_id: int
    eos_id: int
    unknown_id: int

    @classmethod
    def read(cls, folder: Path, rows: int) -> "PieceTokenizer":
        """Reads `tokenizer.model`.

        Args:
          folder: the language model's folder.
          rows: number of rows of the model's embedding table, at least as many as pieces.

        Raises:
          UserError: there is no such file, it is unlike LLaMA's, or it has more pieces than `rows`.
        """
        path = Path(folder) / "tokenizer.model"
        tokenizer, bos, eos, unknown = read_sentencepiece(path)
        if tokenizer.get_vocab_size() > rows:
            raise UserError(
                f"{path}: has {tokenizer.get_vocab_size()} tokens, but the model has rows for {rows} "
                "(vocab_size)"
            )
        size = tokenizer.get_vocab_size()
        tokenizer.add_special_tokens([tokenizer.id_to_token(number) for number in (bos, eos, unknown)])
        tokenizer.encode_special_tokens = True
        return cls(tokenizer, size, bos, eos, unknown)

    @property
    def digest(self) -> str:
        """SHA-256 in hex of everything that the ids of a text depend on."""
        return hashlib.sha256(self.tokenizer.to_str().encode()).hexdigest()

    def encode(self, pieces: Sequence[str | Sequence[int]]) -> list[int]:
        """Ids of pieces, one behind the other.

        Args:
          pieces: texts, each tokenised by itself, and lists of ids, which stand as they are: BOS, image
            slots. An empty text has no tokens, not even a `▁`.
        """
        ids: list[int] = []
        for piece in pieces:
            ids += self._encode(piece).ids if isinstance(piece, str) else piece
        return ids

    def answer(
        self, text: str, spans: Sequence[Span], end: Sequence[int] = ()
    ) -> tuple[list[int], list[Span]]:
        """Ids of an answer, which is a piece of its own, and where spans of it lie among them.

        Args:
          text: the answer.
          spans: (start, end) character places in `text`.
          end: ids that follow a whole answer. They then belong to every span that ends where the text ends.

        Returns:
          ids, and for each span the (start, end) of its tokens in ids; see `token_border` for tokens that
          straddle a border. The `▁` before the first character is the answer's first token's.

        Raises:
          UserError: a span lies outside the text.
        """
        encoding = self._encode(text)
        ends, places = token_ends(encoding.offsets), []
        for start, stop in spans:
            check_span(start, stop, text)
            first = token_border(ends, start) if start else 0
            last = len(ends) + len(end) if stop == len(text) else token_border(ends, stop)
            places.append((first, last))
        return [*encoding.ids, *end], places

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids; special tokens are left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def _encode(self, text: str):
        return self.tokenizer.encode(text, add_special_tokens=False)


def token_border(ends: Sequence[int], place: int) -> int:
    """Index of the first token that belongs to the text from character `place` on.

    The one rule for a token with characters on both sides of a border: it belongs to the side of its *last*
    character. So " dog" belongs to a span that starts behind the space, and all byte pieces of one character
    stay together.

    Args:
      ends: for each token, the index of the character behind its last one; never falling.
      place: index of the character that follows the border.

    Returns:
      The number of tokens that end at `place` or before it.
    """
    return sum(end <= place for end in ends)


def token_ends(offsets: Sequence[Span]) -> list[int]:
    """Ends of tokens, never falling: a piece that stands for no character gets the end of the one before."""
    return list(accumulate((end for _, end in offsets), max))


def check_span(start: int, end: int, text: str) -> None:
    """Refuses a span that lies outside of the text."""
    if not 0 <= start <= end <= len(text):
        raise UserError(f"span {start}:{end} lies outside the {len(text)} characters of {text[:40]!r}")
