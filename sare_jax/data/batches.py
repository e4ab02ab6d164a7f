"""Curated units → token rows → batches, with Grain, so that the place in the stream can be checkpointed.

A unit is a slice of its caption's own token sequence: prompt and caption are tokenised together once, and
pre(o) and cur(o) are read off as ranges of tokens. Only whole captions (D_sent) end with the end symbol.
"""

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import grain
import numpy as np

from sare_jax.errors import UserError
from sare_jax.records.curated import Curated
from sare_jax.rounding import round_up

SETS = ("neg", "pos", "sent")
MAX_LOST = 0.01  # share of a set that may be lost to tokenisation before that is an error (case TK-01)

BUCKETS = (0.5, 0.9, 0.99, 1.0)  # quantiles of the rows' lengths at which buckets end

Batch = dict[str, np.ndarray]


class Tokenizer(Protocol):
    """The part of `sare_jax.models.prompting.ImagePrompter` that is used here."""

    pad_id: int
    eos_id: int

    def answer(
        self, image: str, instruction: str, text: str, spans: Sequence[tuple[int, int]], eos: bool
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of question and text, and the token span of each character span of the text."""


@dataclass(frozen=True)
class TokenSet:
    """The units of one set as token rows, of equal static sizes once batched.

    Attributes:
      tokens: N arrays int32[t]: prompt, context and target; nothing follows the target.
      start: int32[N], index of the first target token.
      image: <U[N], file name.
      caption: int32[N], the caption that the unit was cut from, an index into the curated rows.
      unit: int32[N], the unit's index in its curated table.
      lengths: the lengths that a batch may have, rising; the last holds every unit.
      window: W, target tokens of a batched row.
      pad_id: token at the right of a row.
      weight: float32[N], of each unit's loss; None weighs all by 1.
      reference: float32[N], log-likelihood of each target under the starting weights; None where no loss asks
        for it.
    """

    tokens: list[np.ndarray]
    start: np.ndarray
    image: np.ndarray
    caption: np.ndarray
    unit: np.ndarray
    lengths: tuple[int, ...]
    window: int
    pad_id: int
    weight: np.ndarray | None = None
    reference: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """T, tokens of a batched row that may be any."""
        return self.lengths[-1]

    @property
    def numbers(self) -> dict[str, np.ndarray]:
        """`weight` and `reference`, those that there are."""
        pairs = (("weight", self.weight), ("reference", self.reference))
        return {name: values for name, values in pairs if values is not None}

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
            **{name: np.float32(values[index]) for name, values in self.numbers.items()},
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
      tokenizer: usually an `ImagePrompter`.
      instruction: prompt of every training sample.
      kinds: the sets that are wanted; the others come out empty.
      max_length: tokens that a row may have; longer texts are cut at their end, which shortens or loses the
        target. None sets no limit.
      multiple: row and target lengths are rounded up to a multiple of this.

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
        image = str(curated.rows.image[row])
        tokens, found = tokenizer.answer(image, instruction, text, asked, eos=False)
        ended = np.asarray([*tokens, tokenizer.eos_id][:max_length], np.int32)
        for (kind, index), (start, end) in zip(members, found, strict=True):
            unit = ended if kind == "sent" else ended[:end]
            if start < len(unit):
                units[kind][index] = _Unit(unit, start, image, row, index)
            else:
                lost[kind]["beyond max_length" if start < end else "no target token"] += 1
    kept = {kind: [unit for unit in units[kind] if unit is not None] for kind in SETS}
    _check_lost(lost, spans)
    sets = {kind: _token_set(kept[kind], multiple, tokenizer.pad_id) for kind in SETS}
    return TokenSets(**sets, lost={kind: dict(counts) for kind, counts in lost.items()})


def common_prefix(sets: TokenSets, image_token_id: int) -> tuple[int, ...]:
    """The tokens before the image that all rows share: the system sentence and what opens the question.

    Args:
      sets: token rows.
      image_token_id: ends the prefix.
    """
    rows = [tokens for kind in SETS for tokens in getattr(sets, kind).tokens]
    size = min(int(np.argmax(np.append(tokens, image_token_id) == image_token_id)) for tokens in rows)
    same = np.all([tokens[:size] == rows[0][:size] for tokens in rows], axis=0)
    return tuple(rows[0][: int(np.argmin(np.append(same, False)))].tolist())


def bucket_lengths(lengths: Sequence[int], multiple: int) -> tuple[int, ...]:
    """The few lengths to which batches of rows are padded, so that a step is compiled once for each.

    A batch takes the smallest that holds its longest row, so what matters are the upper quantiles.

    Args:
      lengths: of all rows.
      multiple: the results are multiples of it.

    Returns:
      At most as many as `BUCKETS`, rising; the last holds every row.
    """
    quantiles = np.quantile(lengths, BUCKETS, method="higher") if len(lengths) else [1]
    return tuple(sorted({round_up(int(length), multiple) for length in quantiles}))


def bucket_of(lengths: Sequence[int], longest: int) -> int:
    """Which of the `lengths` is the first to hold a row of `longest` tokens."""
    return next(place for place, length in enumerate(lengths) if length >= longest)


def bucket(lengths: Sequence[int], place: int) -> int:
    """The length of that place, or the last where there are fewer."""
    return lengths[min(place, len(lengths) - 1)]


def count_steps(size: int, batch_size: int, *, epochs: float, steps: int) -> int:
    """Optimizer steps of a run: `steps` where it is not 0, else `epochs` passes, rounded up.

    The last batch of the last pass is filled up from the pass that would follow.

    Args:
      size: units or rows of a pass.
      batch_size: of them in a step.
      epochs: passes.
      steps: of the run.
    """
    return steps or math.ceil(epochs * size / batch_size)


def unlearn_batches(
    sets: TokenSets, *, batch_size: int, steps: int, seed: int, row_multiple: int = 1
) -> grain.IterDataset:
    """Batches of `batch_size` negatives, positives and sentences each, drawn independently.

    D_neg defines the epoch and the others cycle; each stream has its own shuffle, anew in each of its epochs
    (the sampling of protocols 1.5). An empty set gives rows with `valid` 0. Each set has its own length; the
    sets' buckets go up together, so that there are no more combinations than buckets.

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
      filler; image <U[B]; and weight, reference float32[B] where the set has them. Iterators are
      checkpointable.
    """
    streams, lengths = [], {}
    seeds = np.random.SeedSequence(seed).generate_state(len(SETS))
    for kind, stream_seed in zip(SETS, seeds, strict=True):
        units = getattr(sets, kind)
        filler = not len(units)
        # An empty set borrows negatives, which its `valid` hides.
        source = sets.neg if filler else units
        stream = grain.MapDataset.range(len(source)).shuffle(seed=int(stream_seed)).repeat()
        stream = stream.map(functools.partial(_row, source, valid=not filler))
        # Cut before batching: Grain cannot count the batches of an endless stream.
        streams.append(_batched(stream[: steps * batch_size], batch_size, row_multiple))
        lengths[kind] = source.lengths
    zipped = grain.experimental.ZipMapDataset(streams).map(lambda batch: dict(zip(SETS, batch, strict=True)))
    return iterate(zipped.map(functools.partial(_cut, lengths=lengths)))


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
    return iterate(_batched(stream, batch_size, row_multiple))


class _Unit(NamedTuple):
    """A unit that has target tokens; see `TokenSet`."""

    tokens: np.ndarray
    start: int
    image: str
    caption: int
    number: int


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


def _token_set(units: list[_Unit], multiple: int, pad_id: int) -> TokenSet:
    widest = max((len(unit.tokens) - unit.start for unit in units), default=1)
    return TokenSet(
        tokens=[unit.tokens for unit in units],
        start=np.array([unit.start for unit in units], np.int32),
        image=np.array([unit.image for unit in units], np.str_),
        caption=np.array([unit.caption for unit in units], np.int32),
        unit=np.array([unit.number for unit in units], np.int32),
        lengths=bucket_lengths([len(unit.tokens) for unit in units], multiple),
        window=round_up(widest, multiple),
        pad_id=pad_id,
    )


def _row(units: TokenSet, index: int, *, valid: bool) -> Batch:
    return units.row(index) | {"valid": np.float32(valid)}


def _batched(stream: grain.MapDataset, batch_size: int, row_multiple: int) -> grain.MapDataset:
    rows = round_up(batch_size, row_multiple)
    return stream.batch(batch_size, batch_fn=functools.partial(_stack, rows=rows))


def _stack(units: Sequence[Batch], *, rows: int) -> Batch:
    """Stacks units and fills up with copies of the first that do not count."""
    filler = units[0] | {"valid": np.float32(0)}
    units = [*units, *[filler] * (rows - len(units))]
    return {key: np.stack([unit[key] for unit in units]) for key in units[0]}


def _cut(batch: dict[str, Batch], *, lengths: dict[str, tuple[int, ...]]) -> dict[str, Batch]:
    """Takes off padding, down to the first bucket that holds all sets."""
    place = max(bucket_of(lengths[kind], int(part["end"].max())) for kind, part in batch.items())
    return {
        kind: part | {"tokens": part["tokens"][:, : bucket(lengths[kind], place)]}
        for kind, part in batch.items()
    }


def iterate(batches: grain.MapDataset) -> grain.IterDataset:
    """Batches one after the other, two of them ahead; iterators are checkpointable."""
    # A batch costs microseconds: one thread that is two batches ahead is plenty.
    return batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
