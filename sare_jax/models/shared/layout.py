"""The order in which an array's numbers lie in memory, where a compiler's own choice costs a copy."""

from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.experimental.layout import Layout, with_layout_constraint


@custom_partitioning
def row_major(x: jax.Array) -> jax.Array:
    """The same array, its last axis contiguous and its first one outermost.

    A compiler chooses an order for each array by what makes and what reads it. Where two loops over one
    large array want different ones, it copies the whole array between them, and holds it twice.
    """
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


# What jax lowers a layout constraint to has no rule for arrays that are divided over devices, and would have
# them gathered.
def _partition(mesh: Any, given: Any, made: Any) -> tuple:
    del made
    sharding = given[0].sharding
    return mesh, row_major.fun, sharding, (sharding,)


def _same(mesh: Any, given: Any, made: Any) -> Any:
    del mesh, made
    return given[0].sharding


row_major.def_partition(partition=_partition, infer_sharding_from_operands=_same, sharding_rule="... -> ...")
