"""Curated units → token rows → batches, with Grain, so that the place in the stream can be checkpointed.

A unit is a slice of its caption's own token sequence: prompt and caption are tokenised together once, and
pre(o) and cur(o) are read off as ranges of tokens. Only whole captions (D_sent) are followed by what ends
answers in the model's family.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import grain
import numpy as np

from sare_jax.errors import UserError
from sare_jax.records.curated import Curated
from sare_jax.rounding import round_up

SETS = ("neg", "pos", "sent")
MAX_LOST = 0.01  # share of a set's units that may have no target tokens before that is an error (case TK-01)

BUCKETS = (0.5, 0.9, 0.99, 1.0)  # quantiles of the rows' lengths at which buckets end

# Arrays by name; some names stand for groups of arrays.
Batch = dict[str, Any]


class Tokenizer(Protocol):
    """The part of `sare_jax.models.prompting.ImagePrompter` that is used here."""

    @property
    def pad_id(self) -> int:
        """Fills rows on the right."""

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that follow a whole answer."""

    @property
    def longest_target(self) -> int | None:
        """Tokens that a target may have, what ends it included; None sets no limit."""

    def answer(
        self, image: str, instruction: str, text: str, spans: Sequence[tuple[int, int]], eos: bool
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokens of question and text, and the token span of each character span of the text."""


class Unit(NamedTuple):
    """A unit that has target tokens; see `TokenSet`."""

    tokens: np.ndarray
    start: int
    image: str
    caption: int
    number: int


@dataclass(frozen=True, repr=False)  # grain prints what it maps, and all arrays would take seconds
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
      by_unit: name → float32[N], one number a unit: `weight` of its loss (1 without that name), and numbers
        that the objective needs.
      by_token: name → N arrays [t', …] that the objective needs, t' the unit's number of target tokens.
      preferred: another continuation of each unit's context, in the order of the units; None where the
        objective needs none.
    """

    tokens: list[np.ndarray]
    start: np.ndarray
    image: np.ndarray
    caption: np.ndarray
    unit: np.ndarray
    lengths: tuple[int, ...]
    window: int
    pad_id: int
    by_unit: dict[str, np.ndarray] = field(default_factory=dict)
    by_token: dict[str, list[np.ndarray]] = field(default_factory=dict)
    preferred: "TokenSet | None" = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def length(self) -> int:
        """T, tokens of a batched row that may hold any unit of the set."""
        return self.lengths[-1]

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
            **self._extras(index),
        }

    def _extras(self, index: int) -> Batch:
        """The parts of a row that only some objectives need; a part without entries is left out."""
        extras: Batch = {}
        if self.by_unit:
            extras["by_unit"] = {name: np.float32(values[index]) for name, values in self.by_unit.items()}
        if self.by_token:
            extras["by_token"] = {name: self._windowed(each[index]) for name, each in self.by_token.items()}
        if self.preferred is not None:
            row = self.preferred.row(index)
            extras["preferred"] = {key: row[key] for key in ("tokens", "targets", "start", "end")}
        return extras

    def _windowed(self, values: np.ndarray) -> np.ndarray:
        """[t', …] → [W, …], zeros at the right."""
        padded = np.zeros((self.window, *values.shape[1:]), values.dtype)
        padded[: len(values)] = values
        return padded


@dataclass(frozen=True)
class TokenSets:
    """The three sets, and what was lost: counts by set and reason."""

    neg: TokenSet
    pos: TokenSet
    sent: TokenSet
    lost: dict[str, dict[str, int]]

    def having(self, kind: str, units: TokenSet) -> "TokenSets":
        """A copy in which `units` replace the set `kind` (`neg`, `pos` or `sent`)."""
        changes: dict[str, Any] = {kind: units}
        return dataclasses.replace(self, **changes)


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
      curated: captions and the units that were cut from them.
      tokenizer: an `ImagePrompter`, or anything that tokenises as it does.
      instruction: the question about the image, the same in every row.
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
    units: dict[str, list[Unit | None]] = {kind: [None] * len(spans[kind]) for kind in SETS}
    lost: dict[str, Counter] = {kind: Counter() for kind in SETS}
    for row, members in by_row.items():
        text = str(curated.rows.caption[row])
        asked = [spans[kind][index][1:] for kind, index in members]
        image = str(curated.rows.image[row])
        tokens, token_spans = tokenizer.answer(image, instruction, text, asked, eos=False)
        ended = np.asarray([*tokens, *tokenizer.end_ids][:max_length], np.int32)
        for (kind, index), (start, end) in zip(members, token_spans, strict=True):
            unit = cut_target(ended if kind == "sent" else ended[:end], start, tokenizer)
            if start < len(unit):
                units[kind][index] = Unit(unit, start, image, row, index)
            else:
                lost[kind]["beyond max_length" if start < end else "no target token"] += 1
    kept = {kind: [unit for unit in units[kind] if unit is not None] for kind in SETS}
    _check_lost(lost, spans)
    sets = {kind: token_set(kept[kind], multiple, tokenizer.pad_id) for kind in SETS}
    return TokenSets(**sets, lost={kind: dict(counts) for kind, counts in lost.items()})


def cut_target(tokens: np.ndarray, start: int, tokenizer: Tokenizer) -> np.ndarray:
    """The tokens of a unit, less those of its target that are beyond the longest of the model's family.

    Args:
      tokens: int32[t], prompt, context and target.
      start: index of the first target token.
      tokenizer: says how long a target may be.
    """
    longest = tokenizer.longest_target
    return tokens if longest is None else tokens[: start + longest]


def common_prefix(sets: TokenSets, image_token_id: int) -> tuple[int, ...]:
    """The tokens before the image that all rows share: the system sentence and what opens the question.

    Args:
      sets: the three sets as token rows.
      image_token_id: the id in the image slots; the prefix ends before its first occurrence.
    """
    rows = [tokens for kind in SETS for tokens in getattr(sets, kind).tokens]
    size = min(int(np.argmax(np.append(tokens, image_token_id) == image_token_id)) for tokens in rows)
    same = np.all([tokens[:size] == rows[0][:size] for tokens in rows], axis=0)
    return tuple(rows[0][: int(np.argmin(np.append(same, False)))].tolist())


def bucket_lengths(lengths: Sequence[int], multiple: int) -> tuple[int, ...]:
    """The few lengths to which batches are padded; a step is compiled once for each of them.

    A batch takes the smallest that holds its longest row, so the upper quantiles matter most.

    Args:
      lengths: number of tokens of each row.
      multiple: each result is rounded up to a multiple of this.

    Returns:
      At most as many lengths as `BUCKETS` has quantiles, rising; the last holds every row.
    """
    quantiles = np.quantile(lengths, BUCKETS, method="higher") if len(lengths) else [1]
    return tuple(sorted({round_up(int(length), multiple) for length in quantiles}))


def bucket_of(lengths: Sequence[int], longest: int) -> int:
    """Index of the first of the rising `lengths` that holds a row of `longest` tokens."""
    return next(place for place, length in enumerate(lengths) if length >= longest)


def bucket(lengths: Sequence[int], place: int) -> int:
    """`lengths[place]`, or the last length where the set has fewer buckets than that."""
    return lengths[min(place, len(lengths) - 1)]


def count_steps(size: int, batch_size: int, *, epochs: float, steps: int) -> int:
    """Optimizer steps of a run: `steps` where it is not 0, else `epochs` passes, rounded up.

    The last batch of the last pass is filled up from the pass that would follow.

    Args:
      size: units, or rows, in one pass over the data.
      batch_size: units, or rows, in one step.
      epochs: number of passes, which may be a fraction.
      steps: optimizer steps of the run; 0 lets `epochs` decide.
    """
    return steps or math.ceil(epochs * size / batch_size)


def unlearn_batches(
    sets: TokenSets,
    *,
    batch_size: int,
    steps: int,
    seed: int,
    row_multiple: int = 1,
    others: Sequence[str] = (),
) -> grain.IterDataset:
    """Batches of `batch_size` negatives, positives and sentences each, drawn independently.

    An epoch is one pass over D_neg, and the other sets cycle. Each set is shuffled by itself, anew in each of
    its own passes (the sampling of protocols 1.5). Each set has its own bucket lengths, but all sets of a
    batch use the bucket with the same index, so that there are no more combinations than buckets.

    Args:
      sets: the three sets as token rows.
      batch_size: units of each set in a batch.
      steps: number of batches.
      seed: fixes the order of units.
      row_multiple: rows are filled up to a multiple of this with rows of `valid` 0, so that they divide over
        devices and micro-batches.
      others: names of further groups of negatives, each drawn independently.

    Returns:
      An `IterDataset` of {"neg", "pos", "sent"}, less the sets that are empty, and the `others`. Each is a
      dict of tokens int32[B, T]; targets int32[B, W], the tokens from `start` to `end`, padded; start, end
      int32[B]; valid float32[B], 1 for a unit and 0 for a filler; image <U[B]; and where the set has them
      by_unit, name → float32[B], by_token, name → [B, W, …], and preferred, a dict of tokens, targets, start
      and end. Iterators are checkpointable.
    """
    groups = {kind: getattr(sets, kind) for kind in SETS} | dict.fromkeys(others, sets.neg)
    seeds = np.random.SeedSequence(seed).generate_state(len(groups))
    streams, sources = [], {}
    for (group, units), stream_seed in zip(groups.items(), seeds, strict=True):
        if not len(units):
            continue
        stream = grain.MapDataset.range(len(units)).shuffle(seed=int(stream_seed)).repeat()
        # Cut before batching: Grain cannot count the batches of an endless stream.
        stream = stream.map(units.row)[: steps * batch_size]
        streams.append(_batched(stream, batch_size, row_multiple))
        sources[group] = units
    zipped = grain.experimental.ZipMapDataset(streams)
    zipped = zipped.map(lambda batch: dict(zip(sources, batch, strict=True)))
    return iterate(zipped.map(functools.partial(_cut, sources=sources)))


def finetune_batches(
    units: TokenSet, order: np.ndarray, *, batch_size: int, row_multiple: int = 1
) -> grain.IterDataset:
    """One pass over `units` in the given order; the last batch is filled up with rows of `valid` 0.

    Args:
      units: one set as token rows.
      order: int[n], indices into `units`.
      batch_size: units in a batch.
      row_multiple: rows are filled up to a multiple of this with rows of `valid` 0.

    Returns:
      An `IterDataset` of dicts with the keys that each set has in `unlearn_batches`.
    """
    stream = grain.MapDataset.source([int(index) for index in order]).map(units.row)
    return iterate(_batched(stream, batch_size, row_multiple))


def _character_spans(curated: Curated, kind: str) -> list[tuple[int, int, int]]:
    """(caption's index, start, end) of every unit of a set, start and end in characters of the caption."""
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


def token_set(units: Sequence[Unit], multiple: int, pad_id: int) -> TokenSet:
    """The set of these units; row and target lengths are multiples of `multiple`."""
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


def _batched(stream: grain.MapDataset, batch_size: int, row_multiple: int) -> grain.MapDataset:
    rows = round_up(batch_size, row_multiple)
    return stream.batch(batch_size, batch_fn=functools.partial(_stack, rows=rows))


def _stack(units: Sequence[Batch], *, rows: int) -> Batch:
    """Stacks units and fills up to `rows` with copies of the first whose `valid` is 0."""
    filler = units[0] | {"valid": np.float32(0)}
    units = [*units, *[filler] * (rows - len(units))]
    return stacked(units)


def stacked(rows: Sequence[Any]) -> Any:
    """Stacks the arrays of several rows along a new first axis, within dictionaries too."""
    if isinstance(rows[0], dict):
        return {key: stacked([row[key] for row in rows]) for key in rows[0]}
    return np.stack(rows)


def _cut(batch: dict[str, Batch], *, sources: dict[str, TokenSet]) -> dict[str, Batch]:
    """Cuts the rows' padding off, to the lengths of the first bucket that holds every group's longest row."""
    rows = [(part, sources[group]) for group, part in batch.items()]
    rows += [(part["preferred"], units.preferred) for part, units in rows if units.preferred]
    place = max(bucket_of(units.lengths, int(part["end"].max())) for part, units in rows)
    for part, units in rows:
        part["tokens"] = part["tokens"][:, : bucket(units.lengths, place)]
    return batch


def iterate(batches: grain.MapDataset) -> grain.IterDataset:
    """Iterates over batches, computing two of them ahead; iterators are checkpointable."""
    # A batch costs microseconds: one thread that is two batches ahead is plenty.
    return batches.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
