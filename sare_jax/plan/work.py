"""Operations and bytes that a program cannot do without, counted on its jaxpr."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Products of attention kernels on [T, S] arrays: two forward; backward five, of which one is done again.
_FLASH = {"dot_product_attention_fwd": 2, "dot_product_attention_bwd": 5}


@dataclass(frozen=True)
class Work:
    """What one device does at least.

    Attributes:
      flops: operations of matrix products, two a multiplication and addition.
      bytes: the larger operand of each product, read once: weights, or keys and values.
    """

    flops: float
    bytes: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def times(self, number: float) -> "Work":
        """So many runs of it."""
        return Work(self.flops * number, self.bytes * number)


NOTHING = Work(0.0, 0.0)


def work_of(jaxpr: Any, devices: int, turns: int) -> Work:
    """Counts matrix products, those of loops once a turn, and of a choice the least that has any.

    Args:
      jaxpr: a closed jaxpr, of all devices together.
      devices: number of devices, over which rows are divided and products with them.
      turns: of a loop whose number of turns is not known before; a loop inside another such one has one turn.

    Returns:
      The share of one device. Operands without a batch axis are weights, which each device reads whole.
    """
    total = NOTHING
    for equation in _inner(jaxpr).eqns:
        name = equation.primitive.name
        if name == "dot_general":
            total += _product(equation, devices)
        elif name.removesuffix("_wrapper") in _FLASH:
            total += _flash(equation, name.removesuffix("_wrapper"), devices)
        elif name == "while":
            total += work_of(equation.params["body_jaxpr"], devices, 1).times(turns)
        elif name == "cond":
            branches = [work_of(branch, devices, turns) for branch in equation.params["branches"]]
            working = [branch for branch in branches if branch.flops]
            total += min(working, key=lambda branch: branch.flops, default=NOTHING)
        else:
            inside = NOTHING
            for part in _parts(equation):
                inside += work_of(part, devices, turns)
            total += inside.times(equation.params["length"] if name == "scan" else 1)
    return total


def _parts(equation: Any) -> Iterator[Any]:
    """Jaxprs that an equation runs once a turn; of a function with its own gradient, the function alone."""
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in equation.params:
            yield equation.params[key]
            return


def _inner(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def _product(equation: Any, devices: int) -> Work:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, right = (variable.aval for variable in equation.invars)
    inner = math.prod(left.shape[axis] for axis in contracted)
    flops = 2.0 * math.prod(equation.outvars[0].aval.shape) * inner / devices
    sizes = [x.size * x.dtype.itemsize / (devices if x.ndim > 2 else 1) for x in (left, right)]
    return Work(flops, max(sizes))


def _flash(equation: Any, name: str, devices: int) -> Work:
    q, k = (variable.aval for variable in equation.invars[:2])  # [B, T, N, H], [B, S, K, H]
    batch, length, heads, size = q.shape
    causal = 0.5 if length > 1 else 1.0
    flops = 2.0 * _FLASH[name] * causal * batch * length * k.shape[1] * heads * size / devices
    return Work(flops, 2 * k.size * k.dtype.itemsize / devices)
