"""Which requests go into a batch together, and which of them share the reading of an image.

The prompts about one image begin alike, up to behind the image. That part can be read once and each prompt
go on from there: an image takes hundreds of tokens and a question a dozen.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sare_jax.rounding import round_up

# Prompts are padded to a multiple of this many tokens: few lengths, so few compilations, and little waste.
# Beyond `LONG`, where images of any size make prompts of any length, it is an eighth of a power of two.
LENGTH_STEP = 16
LONG = 1024

Prompts = Sequence[Sequence[int] | np.ndarray]


@dataclass(frozen=True)
class Row:
    """Requests that go on from one reading.

    Attributes:
      indices: their numbers.
      shared: tokens that they share; all of the prompt where it is one that shares with none.
      longest: most tokens of one of them behind those.
    """

    indices: tuple[int, ...]
    shared: int
    longest: int

    @property
    def padded(self) -> tuple[int, int]:
        """Lengths to which `shared` and `longest` are padded."""
        return padded_length(self.shared), round_up(self.longest, LENGTH_STEP)


@dataclass(frozen=True)
class Batch:
    """Rows answered together.

    Attributes:
      rows: the rows.
      width: R, requests that a row has room for.
    """

    rows: tuple[Row, ...]
    width: int

    @property
    def indices(self) -> list[int]:
        """Numbers of the requests, row after row."""
        return [index for row in self.rows for index in row.indices]


@dataclass(frozen=True)
class Arrays:
    """A batch as arrays; places that it does not fill repeat others, and their answers are dropped.

    Attributes:
      tokens: int32[B, T], what is read once for each row, right-padded.
      lengths: int32[B], tokens of each row.
      tails: int32[B, R, W], how each request of a row goes on, right-padded; None where they are no longer.
      ends: int32[B, R], tokens of each; None likewise.
      indices: int32[B, R], number of the request in each place.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    tails: np.ndarray | None
    ends: np.ndarray | None
    indices: np.ndarray


def padded_length(length: int) -> int:
    """The length to which so many tokens are padded."""
    eighth = 1 << (int(length).bit_length() - 4) if length > LONG else LENGTH_STEP
    return round_up(int(length), eighth)


def rows_of(
    prompts: Prompts, images: Sequence[str], *, new: int, most: int, image_token: int
) -> tuple[list[Row], int]:
    """Requests in rows, and the number of requests that each row has room for.

    Several requests share a row where fewer tokens are computed in all that way.

    Args:
      prompts: tokens of each request.
      images: image of each request.
      new: tokens that a request is continued by at most.
      most: requests that may share a row, at most.
      image_token: the token of image slots, none of which may stand behind what is shared.
    """
    apart = [Row((index,), len(prompt), 0) for index, prompt in enumerate(prompts)]
    rows, width, least = apart, 1, _computed(apart, 1, new)
    for number in range(2, min(most, max(Counter(images).values(), default=1)) + 1):
        tried = _together(prompts, images, number, image_token)
        if tried and (computed := _computed(tried, number, new)) < least:
            rows, width, least = tried, number, computed
    return rows, width


def batches_of(
    prompts: Prompts, images: Sequence[str], *, batch_size: int, new: int, most: int, image_token: int
) -> list[Batch]:
    """Requests in batches of about the same length, in their order where lengths are equal.

    Args:
      prompts: as in `rows_of`, like all but the next.
      images: image of each request.
      batch_size: requests of a batch.
      new: tokens that a request is continued by at most.
      most: requests that may share a row, at most.
      image_token: the token of image slots.
    """
    rows, width = rows_of(prompts, images, new=new, most=min(most, batch_size), image_token=image_token)
    order = sorted(rows, key=lambda row: (*row.padded, row.indices[0]))
    at_once = max(1, batch_size // width)
    chunks = [order[first : first + at_once] for first in range(0, len(order), at_once)]
    return [Batch(tuple(chunk), width) for chunk in chunks]


def arrays_of(batch: Batch, prompts: Prompts, rows: int, pad_id: int) -> Arrays:
    """The arrays of a batch.

    Args:
      batch: some of `prompts`.
      prompts: tokens of each request.
      rows: B, at least as many as the batch has.
      pad_id: fills what is shorter than others on the right.
    """
    filled = [*batch.rows, *[batch.rows[0]] * (rows - len(batch.rows))]
    shared = [prompts[row.indices[0]][: row.shared] for row in filled]
    indices = np.array(
        [[*row.indices, *[row.indices[0]] * (batch.width - len(row.indices))] for row in filled], np.int32
    )
    tokens = _filled(shared, padded_length(max(map(len, shared))), pad_id)
    lengths = np.array([row.shared for row in filled], np.int32)
    if batch.width == 1:
        return Arrays(tokens, lengths, None, None, indices)
    tails = [
        prompts[index][row.shared :] for row, of_row in zip(filled, indices, strict=True) for index in of_row
    ]
    width = max(row.padded[1] for row in filled)
    ends = np.array([len(tail) for tail in tails], np.int32)
    return Arrays(
        tokens,
        lengths,
        _filled(tails, width, pad_id).reshape(*indices.shape, width),
        ends.reshape(indices.shape),
        indices,
    )


def common(prompts: Prompts) -> int:
    """Tokens that all of them begin with; each has one of its own behind them at least."""
    most = min(map(len, prompts)) - 1
    first = np.asarray(prompts[0][:most])
    differ = np.any([np.asarray(prompt[:most]) != first for prompt in prompts], axis=0)
    return int(np.argmax(differ)) if differ.any() else most


def _together(prompts: Prompts, images: Sequence[str], width: int, image_token: int) -> list[Row] | None:
    """Rows of up to `width` requests about an image each; None where an image is not in what they share."""
    about: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        about.setdefault(image, []).append(index)
    rows = []
    for indices in about.values():
        for first in range(0, len(indices), width):
            some = tuple(indices[first : first + width])
            own = [prompts[index] for index in some]
            shared = common(own)
            if not shared or any(image_token in prompt[shared:] for prompt in own):
                return None
            rows.append(Row(some, shared, max(map(len, own)) - shared))
    return rows


def _computed(rows: Sequence[Row], width: int, new: int) -> float:
    """Tokens that go through the model, the padding of rows included."""
    own = max((row.padded[1] for row in rows), default=0)
    return sum(row.padded[0] + width * (own + new) for row in rows)


def _filled(rows: Prompts, width: int, pad_id: int) -> np.ndarray:
    tokens = np.full((len(rows), width), pad_id, np.int32)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
    return tokens
