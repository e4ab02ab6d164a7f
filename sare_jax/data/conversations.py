"""Conversations → token rows → batches, in the packed form of `sare_jax.data.packing`.

All answers of a conversation are targets, questions are not. The targets of a row stand side by side, so a
conversation is one unit whatever the number of its turns. Its weight makes the mean over a batch's units the
mean over the batch's target tokens, which is the loss of LLaVA's training.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import grain
import numpy as np

from sare_jax.data.batches import Batch, Tokenizer, bucket, bucket_lengths, bucket_of, iterate
from sare_jax.records.conversations import Conversation
from sare_jax.rounding import round_up

MULTIPLE = 8  # row and target lengths are rounded up to a multiple of this


class Speaking(Tokenizer, Protocol):
    """A tokenizer for conversations of several turns, as `sare_jax.models.prompting.ImagePrompter`."""

    def follow_up(self, instruction: str, text: str) -> tuple[list[int], int]:
        """Tokens of a further question and its answer, and the index of the answer's first token."""


class DialogueRow(NamedTuple):
    """One conversation.

    Attributes:
      tokens: int32[t], up to the end of the last answer.
      targets: int32[w], indices of the tokens that answers are made of, what ends them included.
      image: file name.
    """

    tokens: np.ndarray
    targets: np.ndarray
    image: str


def dialogue_rows(
    conversations: Sequence[Conversation], tokenizer: Speaking, max_length: int
) -> list[DialogueRow]:
    """Turns conversations into token rows; those that have no target among their first tokens are left out.

    Args:
      conversations: images, questions and answers.
      tokenizer: tokenizes a question with its answer, and further ones.
      max_length: tokens that a row may have; what is beyond them is cut off.
    """
    rows = [_row(conversation, tokenizer, max_length) for conversation in conversations]
    return [row for row in rows if len(row.targets)]


def _row(conversation: Conversation, tokenizer: Speaking, max_length: int) -> DialogueRow:
    (question, answer), *further = conversation.turns
    span = [(0, len(answer))]
    tokens, [(start, _)] = tokenizer.answer(conversation.image, question, answer, span, eos=False)
    tokens, targets = _ended(tokens, start, tokenizer)
    for question, answer in further:
        more, start = tokenizer.follow_up(question, answer)
        more, said = _ended(more, start, tokenizer)
        targets = np.concatenate([targets, said + len(tokens)])
        tokens = tokens + more
    kept = np.asarray(tokens[:max_length], np.int32)
    return DialogueRow(kept, targets[targets < len(kept)].astype(np.int32), conversation.image)


def _ended(tokens: list[int], start: int, tokenizer: Speaking) -> tuple[list[int], np.ndarray]:
    """Tokens with what ends an answer, cut to the longest target, and the indices of the target."""
    longest = tokenizer.longest_target
    tokens = [*tokens, *tokenizer.end_ids][: None if longest is None else start + longest]
    return tokens, np.arange(start, len(tokens))


def batches(
    rows: Sequence[DialogueRow], *, batch_size: int, pad_id: int, row_multiple: int = 1
) -> grain.IterDataset:
    """One pass over rows in their order; the last batch holds what remains.

    Args:
      rows: conversations.
      batch_size: rows in a batch.
      pad_id: token at the right of a row.
      row_multiple: rows are filled up to a multiple of this with rows without targets.

    Returns:
      An `IterDataset` of dicts of tokens int32[B, T]; image <U[B]; targets and positions int32[B, W], the
      target tokens and the places of the tokens before them, padded; units: {"neg": start, end int32[B, 1], a
      row's run among its targets, and by_unit weight float32[B, 1]}. T is one of few lengths.
    """
    count = round_up(batch_size, row_multiple)
    lengths = bucket_lengths([len(row.tokens) for row in rows], MULTIPLE)
    windows = bucket_lengths([len(row.targets) for row in rows], MULTIPLE)
    stack = functools.partial(_stack, count=count, lengths=lengths, windows=windows, pad_id=pad_id)
    return iterate(grain.MapDataset.source(list(rows)).batch(batch_size, batch_fn=stack))


def _stack(
    rows: Sequence[DialogueRow],
    *,
    count: int,
    lengths: Sequence[int],
    windows: Sequence[int],
    pad_id: int,
) -> Batch:
    # Both take the bucket with the same index, so that there are no more programs than buckets.
    place = max(
        bucket_of(lengths, max(len(row.tokens) for row in rows)),
        bucket_of(windows, max(len(row.targets) for row in rows)),
    )
    length, window = bucket(lengths, place), bucket(windows, place)
    tokens = np.full((count, length), pad_id, np.int32)
    targets = np.full((count, window), pad_id, np.int32)
    positions = np.zeros((count, window), np.int32)
    ends = np.zeros((count, 1), np.int32)
    for index, row in enumerate(rows):
        size = len(row.targets)
        tokens[index, : len(row.tokens)] = row.tokens
        targets[index, :size] = row.tokens[row.targets]
        positions[index, :size] = row.targets - 1
        ends[index] = size
    units = {
        "start": np.zeros_like(ends),
        "end": ends,
        "by_unit": {"weight": (ends * len(rows) / ends.sum()).astype(np.float32)},
    }
    images = [rows[min(index, len(rows) - 1)].image for index in range(count)]
    return {
        "tokens": tokens,
        "image": np.array(images, np.str_),
        "targets": targets,
        "positions": positions,
        "units": {"neg": units},
    }
