"""Curated units → token rows → batches, with Grain, so that the place in the stream can be checkpointed.

A unit is a slice of its caption's own token sequence: prompt and caption are tokenised together once, and
pre(o) and cur(o) are read off as ranges of tokens. Only whole captions (D_sent) end with the end symbol.
"""

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import grain
import numpy as np

from sare_jax.data.curated import Curated
from sare_jax.errors import UserError

SETS = ("neg", "pos", "sent")
MAX_LOST = 0.01  # share of a set that may be lost to tokenisation before that is an error (case TK-01)

Batch = dict[str, np.ndarray]


class Tokenizer(Protocol):
    """The part of `sare_jax.data.prompts.Prompter` that is used here."""

    pad_id: int
    eos_id: int

    def answer(
        self, instruction: str, text: str, spans: Sequence[tuple[int, int]], eos: bool
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of prompt and text, and the token span of each character span of the text."""


@dataclass(frozen=True)
class TokenSet:
    """The units of one set as token rows, of equal static sizes once batched.

    Attributes:
      tokens: N arrays int32[t]: prompt, context and target; nothing follows the target.
      start: int32[N], index of the first target token.
      image: <U[N], file name.
      length: T, tokens of a batched row.
      window: W, target tokens of a batched row.
      pad_id: token at the right of a row.
    """

    tokens: list[np.ndarray]
    start: np.ndarray
    image: np.ndarray
    length: int
    window: int
    pad_id: int

    def __len__(self) -> int:
        return len(self.tokens)

    def row(self, index: int) -> Batch:
        """One unit, padded: see `unlearn_batches` for the keys."""
        tokens, start = self.tokens[index], self.start[index]
        padded = np.full(self.length, self.pad_id, np.int32)
        padded[: len(tokens)] = tokens
        targets = np.full(self.window, self.pad_id, np.int32)
        targets[: len(tokens) - start] = tokens[start:]
        return {
            "tokens": padded,
            "targets": targets,
            "start": np.int32(start),
            "end": np.int32(len(tokens)),
            "valid": np.float32(1),
            "image": self.image[index],
        }


@dataclass(frozen=True)
class TokenSets:
    """The three sets, and what was lost: counts by set and reason."""

    neg: TokenSet
    pos: TokenSet
    sent: TokenSet
    lost: dict[str, dict[str, int]]


def tokenize(
    curated: Curated,
    tokenizer: Tokenizer,
    instruction: str,
    *,
    kinds: Sequence[str] = SETS,
    max_length: int | None = None,
    multiple: int = 8,
) -> TokenSets:
    """Turns the curated sets into token rows.

    Args:
      curated: the sets.
      tokenizer: usually a `Prompter`.
      instruction: prompt of every training sample.
      kinds: the sets that are wanted; the others come out empty.
      max_length: tokens that a row may have; longer texts are cut at their end, which shortens or loses the
        target. None sets no limit.
      multiple: row and target lengths are rounded up to a multiple of this, so that similar data share a
        compiled step.

    Raises:
      UserError: D_neg is empty, the prompt alone is too long, or more than 1 % of a set is lost.
    """
    if not len(curated.neg):
        raise UserError(
            "curated: D_neg is empty, there is nothing to unlearn; raise curate.t1 (or curate.q1) or caption "
            "more images"
        )
    spans = {kind: _character_spans(curated, kind) if kind in kinds else [] for kind in SETS}
    by_row = _by_row(spans)
    units: dict[str, list] = {kind: [None] * len(spans[kind]) for kind in SETS}
    lost = {kind: Counter() for kind in SETS}
    for row, members in by_row.items():
        text = str(curated.rows.caption[row])
        asked = [spans[kind][index][1:] for kind, index in members]
        tokens, found = tokenizer.answer(instruction, text, asked, eos=False)
        ended = np.asarray([*tokens, tokenizer.eos_id][:max_length], np.int32)
        for (kind, index), (start, end) in zip(members, found, strict=True):
            unit = ended if kind == "sent" else ended[:end]
            if start < len(unit):
                units[kind][index] = (unit, start, str(curated.rows.image[row]))
            else:
                lost[kind]["beyond max_length" if start < end else "no target token"] += 1
    kept = {kind: [unit for unit in units[kind] if unit is not None] for kind in SETS}
    _check_lost(lost, spans)
    length = _round_up(max(len(tokens) for kind in SETS for tokens, *_ in kept[kind]), multiple)
    sets = {kind: _token_set(kept[kind], length, multiple, tokenizer.pad_id) for kind in SETS}
    return TokenSets(**sets, lost={kind: dict(counts) for kind, counts in lost.items()})


def count_steps(num_negatives: int, batch_size: int, *, epochs: float, steps: int) -> int:
    """Optimizer steps of a run: `steps` where it is not 0, else `epochs` passes over D_neg, rounded up.

    The last batch of the last pass is filled up from the pass that would follow.
    """
    return steps or math.ceil(epochs * num_negatives / batch_size)


def unlearn_batches(
    sets: TokenSets, *, batch_size: int, steps: int, seed: int, row_multiple: int = 1
) -> grain.IterDataset:
    """Batches of `batch_size` negatives, positives and sentences each, drawn independently.

    D_neg defines the epoch and the others cycle; each stream has its own shuffle, anew in each of its epochs
    (the sampling of protocols 1.5). An empty set gives rows with `valid` 0.

    Args:
      sets: token rows.
      batch_size: units of each set in a batch.
      steps: number of batches.
      seed: of the order.
      row_multiple: rows are filled up to a multiple of this with rows of `valid` 0, so that they divide over
        devices and micro-batches.

    Returns:
      An `IterDataset` of {"neg", "pos", "sent"}, each a dict of tokens int32[B, T]; targets int32[B, W], the
      tokens from `start` to `end`, padded; start, end int32[B]; valid float32[B], 1 for a unit and 0 for a
      filler; image <U[B]. Iterators are checkpointable.
    """
    streams = []
    seeds = np.random.SeedSequence(seed).generate_state(len(SETS))
    for kind, stream_seed in zip(SETS, seeds, strict=True):
        units = getattr(sets, kind)
        filler = not len(units)
        # An empty set borrows negatives, which its `valid` hides.
        source = sets.neg if filler else units
        stream = grain.MapDataset.range(len(source)).shuffle(seed=int(stream_seed)).repeat()
        stream = stream.map(functools.partial(_row, source, valid=not filler))
        streams.append(_batched(stream, batch_size, row_multiple)[:steps])
    zipped = grain.experimental.ZipMapDataset(streams).map(lambda batch: dict(zip(SETS, batch, strict=True)))
    return _iterate(zipped)


def finetune_batches(
    units: TokenSet, order: np.ndarray, *, batch_size: int, row_multiple: int = 1
) -> grain.IterDataset:
    """One pass over `units` in the given order; the last batch is filled up with rows of `valid` 0.

    Args:
      units: token rows.
      order: int[n], indices into `units`.
      batch_size: units in a batch.
      row_multiple: as in `unlearn_batches`.

    Returns:
      An `IterDataset` of dicts as `unlearn_batches` has one a set.
    """
    stream = grain.MapDataset.source([int(index) for index in order]).map(
        functools.partial(_row, units, valid=True)
    )
    return _iterate(_batched(stream, batch_size, row_multiple))


def _character_spans(curated: Curated, kind: str) -> list[tuple[int, int, int]]:
    """(row, start, end) in characters of every unit of a set."""
    table = getattr(curated, kind)
    if kind == "sent":
        return [(int(row), 0, len(str(curated.rows.caption[row]))) for row in table.row]
    return list(zip(table.row.tolist(), table.start.tolist(), table.end.tolist(), strict=True))


def _by_row(spans: dict[str, list[tuple[int, int, int]]]) -> dict[int, list[tuple[str, int]]]:
    """Caption → its (set, index) members, so that each caption is tokenised once."""
    members: dict[int, list[tuple[str, int]]] = {}
    for kind in SETS:
        for index, (row, *_) in enumerate(spans[kind]):
            members.setdefault(row, []).append((kind, index))
    return members


def _check_lost(lost: dict[str, Counter], spans: dict[str, list]) -> None:
    for kind, reasons in lost.items():
        if reasons.total() > MAX_LOST * len(spans[kind]):
            what = ", ".join(f"{count} × {reason}" for reason, count in reasons.items())
            raise UserError(
                f"curated: {reasons.total()} of {len(spans[kind])} units of D_{kind} have no target tokens "
                f"({what}); check captions and tokenizer, or raise max_length"
            )


def _token_set(units: list[tuple[np.ndarray, int, str]], length: int, multiple: int, pad_id: int) -> TokenSet:
    widest = max((len(tokens) - start for tokens, start, _ in units), default=1)
    return TokenSet(
        tokens=[tokens for tokens, _, _ in units],
        start=np.array([start for _, start, _ in units], np.int32),
        image=np.array([image for *_, image in units], np.str_),
        length=length,
        window=_round_up(widest, multiple),
        pad_id=pad_id,
    )


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _row(units: TokenSet, index: int, *, valid: bool) -> Batch:
    return units.row(index) | {"valid": np.float32(valid)}


def _batched(stream: grain.MapDataset, batch_size: int, row_multiple: int) -> grain.MapDataset:
    rows = _round_up(batch_size, row_multiple)
    return stream.batch(batch_size, batch_fn=functools.partial(_stack, rows=rows))


def _stack(units: Sequence[Batch], *, rows: int) -> Batch:
    """Stacks units and fills up with copies of the first that do not count."""
    filler = units[0] | {"valid": np.float32(0)}
    units = [*units, *[filler] * (rows - len(units))]
    return {key: np.stack([unit[key] for unit in units]) for key in units[0]}


def _iterate(batches: grain.MapDataset) -> grain.IterDataset:
    # A batch costs microseconds: one thread that is two batches ahead is plenty.
    return batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
