"""Sizes that may be `auto`: as large as memory allows, where no result depends on them.

What chooses is a `Sizer`. It is asked where the program that will run can be lowered with its own shapes, and
not before: by `inference.ask`, by training, and by whatever else works in batches of rows.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol

AUTO: Final = "auto"
Size = int | Literal["auto"]
"""A number, or `auto`."""
IN_CONFIG: Final = int | str
"""The type by which a `ConfigDict` holds a `Size`, since it knows no literals."""


class Lowered(NamedTuple):
    """A program that has not been compiled yet.

    Attributes:
      lowered: `jax.stages.Lowered`.
      held: arrays or shapes, with shardings, that lie on the devices while it runs.
    """

    lowered: Any
    held: Any


class Sizer(Protocol):
    """Chooses sizes for the devices that are there."""

    def rows(self, make: Callable[[int], Lowered], *, multiple: int, most: int, about: Mapping) -> int:
        """The rows of a batch.

        Args:
          make: lowers the program for so many rows, over all devices.
          multiple: of what rows are a multiple.
          most: beyond which no row would have work.
          about: JSON-able values on which the program's memory depends beside the model and the devices.

        Raises:
          UserError: not even `multiple` rows fit.
        """

    def parts(self, make: Callable[[int], Lowered], *, allowed: list[int], about: Mapping) -> int:
        """The fewest parts in which a batch is worked off.

        Args:
          make: lowers the program for so many parts.
          allowed: rising numbers of parts.
          about: as in `rows`.

        Raises:
          UserError: it does not fit in as many parts as are allowed.
        """
