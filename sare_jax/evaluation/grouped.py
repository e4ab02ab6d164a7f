"""Counts of an image for each group of questions: tasks of MME, question types of the others.

A sum over tasks, or a mean of the groups' accuracies, needs the counts of each group, not of each image
alone. So a table has one line for each pair of image and group, and numbers are made from one row an image in
which the groups' counts stand side by side.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sare_jax.errors import UserError
from sare_jax.evaluation import bootstrap
from sare_jax.schema import LARGEST


def groups_of(*tables: dict[str, list]) -> tuple[str, ...]:
    """The groups that stand in some tables, in order; none where the tables have none."""
    return tuple(dict.fromkeys(group for table in tables for group in table.get("group", ())))


def check_tables(name: str, tables: Sequence[Any], columns: Sequence[str]) -> None:
    """Refuses tables of counts that cannot be used together, as a file that was changed by hand holds them.

    Args:
      name: whose counts they are, for the error.
      tables: each `image_id`, the columns and, where the counts are grouped, `group`, all of one length.
      columns: names of the counts.

    Raises:
      UserError: names what is lacking, or the column that is no list of numbers.
    """
    grouped = any(isinstance(table, dict) and "group" in table for table in tables)
    kinds: dict[str, tuple[type, ...]] = {"image_id": (int, str)} | ({"group": (str,)} if grouped else {})
    kinds |= dict.fromkeys(columns, (int, float))
    for table in tables:
        absent = [key for key in kinds if not isinstance(table, dict) or key not in table]
        if absent:
            raise UserError(
                f"{name}: no counts {', '.join(absent)} by image in one of the runs; score it again"
            )
        images = table["image_id"]
        for key, kind in kinds.items():
            values = table[key]
            fits = isinstance(values, list) and isinstance(images, list) and len(values) == len(images)
            if not fits or not all(type(value) in kind and _is_usable(value) for value in values):
                raise UserError(f"{name}: {key} by image is damaged in one of the runs; score it again")


def _is_usable(value: float | str) -> bool:
    return isinstance(value, str) or -LARGEST <= value <= LARGEST  # neither does NaN


def rows_of(
    table: dict[str, list], columns: Sequence[str], groups: Sequence[str] = ()
) -> dict[Any, np.ndarray]:
    """A table's counts by image.

    Args:
      table: `image_id`, the columns and, where the counts are grouped, `group`.
      columns: names of the K counts, keys of the tables.
      groups: names of the G groups; empty where each line of the table is an image.

    Returns:
      float[K] by image, or float[G·K], 0 where an image has nothing in a group.
    """
    counts = np.array([table[name] for name in columns], float).T
    if not groups:
        return dict(zip(table["image_id"], counts, strict=True))
    place = {group: number for number, group in enumerate(groups)}
    rows: dict[Any, np.ndarray] = {}
    for image, group, row in zip(table["image_id"], table["group"], counts, strict=True):
        spread = rows.setdefault(image, np.zeros((len(groups), len(columns))))
        spread[place[group]] += row
    return {image: spread.reshape(-1) for image, spread in rows.items()}


def per_group(sums: np.ndarray, num_columns: int) -> np.ndarray:
    """Sums laid out by group again: float[..., G·K] → float[..., G, K]."""
    return sums.reshape(*sums.shape[:-1], -1, num_columns)


def pooled_share(part: int, whole: int, num_columns: int) -> bootstrap.Share:
    """The share of one column in another over all groups together (micro), in percent."""

    def tally(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        total = per_group(sums, num_columns).sum(axis=-2)
        return total[..., part], total[..., whole]

    return bootstrap.Share(tally)


def pooled(top: int, bottom: int, num_columns: int, scale: float) -> bootstrap.Metric:
    """The ratio of two columns over all groups together."""

    def value(sums: np.ndarray) -> np.ndarray:
        total = per_group(sums, num_columns).sum(axis=-2)
        return scale * bootstrap.divide(total[..., top], total[..., bottom])

    return value


def mean_of_groups(top: int, bottom: int, num_columns: int) -> bootstrap.Metric:
    """The mean over groups of the ratio of two columns in percent (macro); empty groups are out."""

    def value(sums: np.ndarray) -> np.ndarray:
        counts = per_group(sums, num_columns)
        shares = bootstrap.divide(counts[..., top], counts[..., bottom])
        return 100.0 * bootstrap.divide(shares.sum(axis=-1), (counts[..., bottom] > 0).sum(axis=-1))

    return value


def side_by_side(tables: Sequence[dict[str, list]], columns: Sequence[str]) -> dict[Any, np.ndarray]:
    """Counts of several tables by image, beside each other.

    Args:
      tables: T tables with `image_id` and the columns.
      columns: names of the K counts, keys of the tables.

    Returns:
      float[T·K] by image, 0 where a table lacks the image.
    """
    images = list(dict.fromkeys(image for table in tables for image in table["image_id"]))
    rows = {image: np.zeros((len(tables), len(columns))) for image in images}
    for number, table in enumerate(tables):
        for image, counts in rows_of(table, columns).items():
            rows[image][number] = counts
    return {image: counts.reshape(-1) for image, counts in rows.items()}
