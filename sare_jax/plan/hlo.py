"""What a compiled program does, read off its text: kernels, collectives, loops, transfers to the host."""

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"
_HOST = ("infeed", "outfeed", "send", "recv")

_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_OP = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.*?) ([a-z][\w\-]*)\(")
_CALLS = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SHAPE = re.compile(r"\b(pred|bf16|f8\w*|[sufc]\d+)\[([\d,]*)\]")
_TARGET = re.compile(r'custom_call_target="([^"]+)"')


@dataclass(frozen=True)
class Moved:
    """Collectives of one kind in one run of a program.

    Attributes:
      calls: how many there are, those of a loop once a turn.
      bytes: of their results on one device, in all.
      largest: bytes of the largest one's.
    """

    calls: int
    bytes: int
    largest: int


@dataclass(frozen=True)
class Deeds:
    """What one run of a program does.

    Attributes:
      kernels: target of a custom call → calls, those of a loop once a turn.
      collectives: kind → what is moved.
      host: operations that move data between the card and its host inside of the program.
    """

    kernels: dict[str, int]
    collectives: dict[str, Moved]
    host: tuple[str, ...]


def deeds(text: str, turns: int = 1) -> Deeds:
    """Reads a program.

    Args:
      text: the program in the compiler's own language (`as_text`).
      turns: of a loop whose number of turns the compiler does not know.
    """
    kernels: dict[str, int] = {}
    moved: dict[str, list[tuple[int, int]]] = {}
    host: list[str] = []
    for times, name, shape, line in _operations(text, turns):
        kind = name.removesuffix("-start")
        if kind in COLLECTIVES:
            moved.setdefault(kind, []).append((times, _result_bytes(shape, name)))
        elif kind in _HOST or "S(5)" in shape:
            host.append(line.strip()[:200])
        elif name == "custom-call" and (target := _TARGET.search(line)):
            kernels[target[1]] = kernels.get(target[1], 0) + times
            if "callback" in target[1] or "host" in target[1].lower():
                host.append(line.strip()[:200])
    collectives = {
        kind: Moved(
            sum(times for times, _ in each),
            sum(times * size for times, size in each),
            max(size for _, size in each),
        )
        for kind, each in moved.items()
    }
    return Deeds(kernels, collectives, tuple(host))


def converted(text: str, stacks: set[tuple[int, ...]], dtypes: Collection[str] = ("f32",)) -> list[str]:
    """Results in such dtypes that have the shape of one of these weights: copies that should not be there."""
    return [line for dtype, shape, line in results(text) if dtype in dtypes and shape in stacks]


def results(text: str) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Number format, shape and line of each result that is written to memory: not those inside of fusions."""
    for _, _, shape, line in _operations(text):
        for dtype, dims in _SHAPE.findall(shape):
            yield dtype, tuple(int(size) for size in dims.split(",") if size), line.strip()[:200]


def num_aliased(text: str) -> int:
    """Results that lie where a donated argument did."""
    head = text.partition("\n")[0]
    inside = re.search(r"input_output_alias=\{(.*?)\}, entry", head)
    return inside[1].count("may-alias") + inside[1].count("must-alias") if inside else 0


def _operations(text: str, unknown: int = 1) -> Iterator[tuple[int, str, str, str]]:
    """Runs, name, result shape and line of each operation that the device is told to do."""
    bodies, calls = _computations(text, unknown)
    runs = _runs(text, calls)
    for computation, lines in bodies.items():
        if not runs.get(computation):
            continue
        for line in lines:
            if found := _OP.match(line):
                yield runs[computation], found[2], found[1], line


def _computations(text: str, unknown: int) -> tuple[dict[str, list[str]], dict[str, list[tuple[str, int]]]]:
    """Lines of each computation, and which others it calls how often; fusions are not looked into."""
    bodies: dict[str, list[str]] = {}
    calls: dict[str, list[tuple[str, int]]] = {}
    lines: list[str] = []
    name = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            name, lines = head[1], []
            bodies[name], calls[name] = lines, []
        elif name:
            lines.append(line)
            found = _OP.match(line)
            if not found or found[2] == "fusion":
                continue
            trips = _TRIPS.search(line)
            turns = (int(trips[1]) if trips else unknown) if found[2] == "while" else 1
            called = _CALLS.findall(line)
            for group in _BRANCHES.findall(line):
                called += [one.strip().removeprefix("%") for one in group.split(",")]
            calls[name] += [(one, turns) for one in called]
    return bodies, calls


def _runs(text: str, calls: dict[str, list[tuple[str, int]]]) -> dict[str, int]:
    entry = re.search(r"^ENTRY %?([\w.\-]+)", text, re.MULTILINE)
    runs: dict[str, int] = {}

    def visit(name: str, times: int) -> None:
        runs[name] = runs.get(name, 0) + times
        for called, turns in calls.get(name, ()):
            visit(called, times * turns)

    if entry:
        visit(entry[1], 1)
    return runs


def _result_bytes(shape: str, name: str) -> int:
    """Bytes of an operation's result; the shape of a start holds its operands too."""
    sizes = [_bytes(dtype, dims) for dtype, dims in _SHAPE.findall(shape)]
    if name.endswith("-start") and name.startswith(("all-gather", "collective-permute")):
        return sum(sizes[len(sizes) // 2 :]) if name.startswith("all-gather") else max(sizes, default=0)
    return sum(sizes)


def _bytes(dtype: str, dims: str) -> int:
    count = math.prod(int(size) for size in dims.split(",") if size)
    bits = re.search(r"\d+$", dtype)
    width = 8 if dtype == "pred" or dtype.startswith("f8") else int(bits[0]) if bits else 8
    return count * width // 8
