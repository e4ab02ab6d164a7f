"""One row a caption: the image once, and all units of its caption as runs of the row's own tokens.

A unit's context is a prefix of the caption it was cut from, so one run of a row gives the log-probabilities
of all its units' targets. A batch holds rows in two groups, those with negatives and those without, since
only the first are run again at θ + ε*. The head runs on tokens that are some unit's target and on no others;
these are listed side by side, where a unit is still one run:

    row       <s> … image … Describe it. A man with a red hat sits on a horse.
    units                                  [      neg      ]        [  pos   ]
    targets                                man with a red hat on a horse
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from sare_jax.data.batches import (
    SETS,
    Batch,
    TokenSets,
    bucket,
    bucket_lengths,
    bucket_of,
    iterate,
)
from sare_jax.rounding import round_up

GROUPS = ("neg", "rest")
MULTIPLE = 8  # row and target lengths are rounded up to a multiple of this


@dataclass(frozen=True)
class PackedRow:
    """One caption and its units.

    Attributes:
      tokens: int32[t]: prompt and caption, up to the end of the last target.
      image: file name.
      spans: set → int32[U, 2], first token and the one after the last of each unit's target.
      by_unit: set → name → float32[U], one number a unit; empty where the objective needs none.
      by_token: set → name → U arrays [t', …], t' the unit's target tokens; empty where it needs none.
    """

    tokens: np.ndarray
    image: str
    spans: dict[str, np.ndarray]
    by_unit: dict[str, dict[str, np.ndarray]]
    by_token: dict[str, dict[str, list[np.ndarray]]]

    def targets(self, kinds: Sequence[str]) -> np.ndarray:
        """int64[W], indices of the tokens that are a target of some unit of these sets, rising."""
        runs = [np.arange(start, end) for kind in kinds for start, end in self.spans[kind]]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *runs]))

    def upto(self, kinds: Sequence[str]) -> int:
        """Number of tokens up to and with the last target of these sets; 0 where there is none."""
        return max((int(end) for kind in kinds for _, end in self.spans[kind]), default=0)


def pack(sets: TokenSets) -> list[PackedRow]:
    """Gathers the units of each caption; captions without units are left out.

    Args:
      sets: the three sets as token rows, each row a prefix of its caption's tokens.
    """
    members: dict[int, dict[str, list[int]]] = {}
    for kind in SETS:
        for index, row in enumerate(getattr(sets, kind).caption.tolist()):
            members.setdefault(row, {kind: [] for kind in SETS})[kind].append(index)
    return [_packed(sets, members[row]) for row in sorted(members)]


def _packed(sets: TokenSets, members: dict[str, list[int]]) -> PackedRow:
    all_units = [(getattr(sets, kind), index) for kind in SETS for index in members[kind]]
    longest = max((units.tokens[index] for units, index in all_units), key=len)
    spans, by_unit, by_token = {}, {}, {}
    for kind in SETS:
        units, chosen = getattr(sets, kind), members[kind]
        pairs = [(units.start[index], len(units.tokens[index])) for index in chosen]
        spans[kind] = np.array(pairs, np.int32).reshape(-1, 2)
        by_unit[kind] = {name: values[chosen] for name, values in units.by_unit.items()}
        by_token[kind] = {name: [each[i] for i in chosen] for name, each in units.by_token.items()}
    units, index = all_units[0]
    return PackedRow(longest, str(units.image[index]), spans, by_unit, by_token)


def packed_batches(
    rows: Sequence[PackedRow],
    *,
    batch_size: int,
    steps: int,
    seed: int,
    pad_id: int,
    row_multiple: int = 1,
    others: Sequence[str] = (),
) -> grain.IterDataset:
    """Batches of about `batch_size` captions; an epoch takes each caption once, in a new order.

    Captions with negatives and those without are shuffled apart and every batch takes its share of both, so
    that the groups have the same size in all batches.

    Args:
      rows: all captions with their units, from `pack`.
      batch_size: captions in a batch.
      steps: number of batches.
      seed: fixes the order of rows.
      pad_id: token at the right of a row.
      row_multiple: groups are filled up to a multiple of this with rows without units.
      others: names of further groups of captions with their negatives alone, each drawn independently.

    Returns:
      An `IterDataset` of {"neg", "rest", "second"} and the `others`. `neg`, the captions with negatives, and
      `rest`, left out where there are none, are dicts of

      * tokens int32[B, T]; image <U[B];
      * targets int32[B, W], the tokens that are some unit's target, and positions int32[B, W], the target
        positions: that of the token before each; padded;
      * units: set → start, end int32[B, U], a unit's run among the targets, empty for padding; and by_unit,
        name → float32[B, U], where the set has numbers;
      * by_token: name → [B, W, …], of the targets of sets that have such arrays.

      `second` has the captions of `neg` once more, without `image`: with their negatives alone, and cut
      behind the last target of these. Iterators are checkpointable.
    """
    groups = _groups(rows)
    plan = _Plan(rows, groups, math.ceil(len(rows) / batch_size), seed, pad_id, row_multiple, others)
    return iterate(grain.MapDataset.range(steps).map(plan.batch))


def _groups(rows: Sequence[PackedRow]) -> dict[str, np.ndarray]:
    negative = np.array([len(row.spans["neg"]) > 0 for row in rows])
    groups = {"neg": np.flatnonzero(negative), "rest": np.flatnonzero(~negative)}
    return {name: members for name, members in groups.items() if len(members)}


class _Plan:
    """Which rows are in which batch, and the sizes that all batches share."""

    def __init__(
        self,
        rows: Sequence[PackedRow],
        groups: dict[str, np.ndarray],
        epoch: int,
        seed: int,
        pad_id: int,
        row_multiple: int,
        others: Sequence[str],
    ):
        self._rows, self._epoch, self._seed, self._pad_id = rows, epoch, seed, pad_id
        self._layouts = {name: _Layout([rows[i] for i in members], SETS) for name, members in groups.items()}
        negatives = _Layout([rows[i] for i in groups["neg"]], ("neg",))
        self._layouts |= {"second": negatives} | dict.fromkeys(others, negatives)
        self._groups = groups | dict.fromkeys(others, groups["neg"])
        self._streams = [*GROUPS, *others]
        self._counts = {
            name: round_up(math.ceil(len(members) / epoch), row_multiple)
            for name, members in self._groups.items()
        }
        self._counts["second"] = self._counts["neg"]
        self._order = functools.lru_cache(maxsize=4)(self._shuffled)

    def batch(self, index: int) -> dict[str, Any]:
        """The batch of the step with that number, from 0."""
        epoch, part = divmod(int(index), self._epoch)
        chosen = {}
        for name, members in self._groups.items():
            first, last = (len(members) * edge // self._epoch for edge in (part, part + 1))
            chosen[name] = [self._rows[i] for i in self._order(epoch, name)[first:last]]
        chosen["second"] = chosen["neg"]
        # Buckets go up together, so that there are no more combinations than buckets.
        bucket = max(self._layouts[name].bucket_of(rows) for name, rows in chosen.items())
        made = {
            name: self._layouts[name].stack(rows, self._counts[name], bucket, self._pad_id)
            for name, rows in chosen.items()
        }
        del made["second"]["image"]
        return made

    def _shuffled(self, epoch: int, name: str) -> np.ndarray:
        rng = np.random.default_rng([self._seed, epoch, self._streams.index(name)])
        return rng.permutation(self._groups[name])


class _Layout:
    """The static array sizes of one group of rows, and `stack`, which makes its arrays.

    Sizes are the largest over all rows that the group may ever hold, counting the units of `kinds` alone, so
    that every batch of the group has the same shapes but for the row length, which is that of a bucket.
    """

    def __init__(self, rows: Sequence[PackedRow], kinds: Sequence[str]):
        self._some = rows[0]
        self._kinds = [kind for kind in kinds if any(len(row.spans[kind]) for row in rows)]
        self._lengths = bucket_lengths([row.upto(self._kinds) for row in rows], MULTIPLE)
        self._window = round_up(max(len(row.targets(self._kinds)) for row in rows), MULTIPLE)
        self._units = {kind: max(len(row.spans[kind]) for row in rows) for kind in self._kinds}
        # One unit's arrays of each name, for their shapes.
        self._by_token = {
            name: each[0]
            for row in rows
            for kind in self._kinds
            for name, each in row.by_token[kind].items()
            if each
        }

    def bucket_of(self, rows: Sequence[PackedRow]) -> int:
        """Index of the first bucket that holds these rows."""
        return bucket_of(self._lengths, max((row.upto(self._kinds) for row in rows), default=0))

    def stack(self, rows: Sequence[PackedRow], count: int, place: int, pad_id: int) -> Batch:
        """Arrays of `count` rows, padded to the length of the bucket with index `place`.

        Where there are fewer `rows`, the last rows of the arrays are padding and have no units.
        """
        length, window = bucket(self._lengths, place), self._window
        made: Batch = {
            "tokens": np.full((count, length), pad_id, np.int32),
            "targets": np.full((count, window), pad_id, np.int32),
            "positions": np.zeros((count, window), np.int32),
        }
        by_token = {
            name: np.zeros((count, window, *like.shape[1:]), like.dtype)
            for name, like in self._by_token.items()
        }
        if by_token:
            made["by_token"] = by_token
        units = {kind: self._blank(kind, count) for kind in self._kinds}
        for index, row in enumerate(rows):
            size, targets = row.upto(self._kinds), row.targets(self._kinds)
            made["tokens"][index, :size] = row.tokens[:size]
            made["targets"][index, : len(targets)] = row.tokens[targets]
            made["positions"][index, : len(targets)] = targets - 1
            for kind, columns in units.items():
                start, end = row.spans[kind].T
                first = np.searchsorted(targets, start)
                columns["start"][index, : len(start)] = first
                columns["end"][index, : len(start)] = first + end - start
                for name, values in row.by_unit[kind].items():
                    columns["by_unit"][name][index, : len(start)] = values
                for name, each in row.by_token[kind].items():
                    for unit, values in zip(first, each, strict=True):
                        by_token[name][index, unit : unit + len(values)] = values
        names = [row.image for row in rows] + [self._some.image] * (count - len(rows))
        return made | {"units": units, "image": np.array(names)}

    def _blank(self, kind: str, count: int) -> Batch:
        shape = (count, self._units[kind])
        blank: Batch = {"start": np.zeros(shape, np.int32), "end": np.zeros(shape, np.int32)}
        if self._some.by_unit[kind]:
            blank["by_unit"] = {name: np.zeros(shape, np.float32) for name in self._some.by_unit[kind]}
        return blank
