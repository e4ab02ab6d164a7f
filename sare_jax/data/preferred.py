"""Preferred continuations: how a caption goes on if its hallucination is left out."""

import dataclasses
import re

import numpy as np

from sare_jax.data.batches import Tokenizer, TokenSet, Unit, cut_target, token_set
from sare_jax.records.curated import Curated

# Punctuation that ends a piece, with closing quotes and brackets behind it, before white space or the end.
_MARKS = r"[,.;!?:]+[\"'”’)\]}]*(?=\s|$)"
_CLOSING = re.compile(_MARKS)
_PIECE = re.compile(rf".*?(?={_MARKS}|$)", re.DOTALL)


def with_preferred(
    units: TokenSet, curated: Curated, tokenizer: Tokenizer, instruction: str, *, multiple: int = 8
) -> TokenSet:
    """The negatives, each with a continuation of the same context that leaves its hallucination out.

    The continuation is the next piece of the caption: what follows the negative and its closing punctuation,
    up to the next punctuation or the caption's end. Where no piece follows it is the answer's end. In

        A man rides a horse, a dog beside him, in the rain.

    " a dog beside him" gives way to " in the rain", and " in the rain" to the end of the answer. Context and
    continuation are tokenised together, as a caption is.

    Args:
      units: token rows of D_neg.
      curated: the captions and sets that `units` were made from.
      tokenizer: the same one that made `units`.
      instruction: the question about the image, the same in every row.
      multiple: row and target lengths are rounded up to a multiple of this.
    """
    continued = [_continued(units, index, curated, tokenizer, instruction) for index in range(len(units))]
    return dataclasses.replace(units, preferred=token_set(continued, multiple, units.pad_id))


def next_piece(text: str) -> str:
    """The piece that follows a negative; `text` is the caption behind it. Empty where no piece follows."""
    closing = _CLOSING.match(text)
    rest = text[closing.end() if closing else 0 :]
    match = _PIECE.match(rest)
    piece = match.group() if match else ""
    return piece if re.search(r"\w", piece) else ""


def _continued(units: TokenSet, index: int, curated: Curated, tokenizer: Tokenizer, instruction: str) -> Unit:
    number = int(units.unit[index])
    row, start, end = (int(getattr(curated.neg, name)[number]) for name in ("row", "start", "end"))
    caption = str(curated.rows.caption[row])
    context, piece = caption[:start], next_piece(caption[end:])
    image = str(units.image[index])
    tokens, ((first, last),) = tokenizer.answer(
        image, instruction, context + piece, [(start, start + len(piece))], eos=False
    )
    if first < last:
        target = np.asarray(tokens[:last], np.int32)
    else:
        target, first = np.asarray([*tokens, *tokenizer.end_ids], np.int32), len(tokens)
    return Unit(cut_target(target, first, tokenizer), first, image, row, number)
