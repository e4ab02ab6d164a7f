"""Sizes that are `auto`, chosen by the memory of the devices that are there, and remembered."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh

from sare_jax import files, hosts, progress
from sare_jax.errors import UserError
from sare_jax.plan.bounds import SPARE, last_fitting
from sare_jax.plan.compiled import memory_of
from sare_jax.settings.auto import Lowered

MOST_ROWS = 1024
"""Rows of a batch that are chosen at the most: a larger one only waits longer for its last row."""

_TOO_LARGE = "RESOURCE_EXHAUSTED"  # how XLA begins where compiling alone takes too much memory


class DeviceSizer:
    """The `settings.auto.Sizer` of a mesh: has its compiler say what a program takes.

    On a graphics card a batch is the largest that leaves `SPARE` of JAX's share of the memory free, to within
    an eighth. A CPU works no faster on larger batches, so there the default stays, and is lowered only where
    it does not fit into the machine's memory.
    """

    def __init__(self, mesh: Mesh, setting: str, default: int, identity: Mapping, record: Path | None):
        """Asks nothing yet.

        Args:
          mesh: the devices.
          setting: name of the setting that is `auto`, for people: `config.` and its key.
          default: where the search begins.
          identity: JSON-able values that say which model it is, and how it is read.
          record: JSON file of what was chosen; None keeps nothing.
        """
        self._mesh, self._setting, self._default = mesh, setting, default
        self._identity, self._record = dict(identity), record
        self._said: set[int] = set()

    def rows(self, make: Callable[[int], Lowered], *, multiple: int, most: int, about: Mapping) -> int:
        """See `Sizer`."""
        start = -(-self._default // multiple)
        last = start if self._on_cpu else MOST_ROWS // multiple
        last = max(1, min(last, -(-most // multiple)))
        candidates = range(multiple, last * multiple + 1, multiple)
        least = f"a batch of {multiple}"
        return self._chosen(make, candidates, min(start, last) - 1, {**about, "most": most}, least)

    def parts(self, make: Callable[[int], Lowered], *, allowed: list[int], about: Mapping) -> int:
        """See `Sizer`.

        Raises:
          UserError: among others, several hosts take part, which could come to different numbers.
        """
        if hosts.several():
            raise UserError(
                f"{self._setting}: auto is for one process, and there are {jax.process_count()}; "
                "give a number"
            )
        least = f"a step in {allowed[-1]} parts"
        return self._chosen(make, allowed[::-1], len(allowed) - 1, about, least)

    @property
    def _on_cpu(self) -> bool:
        return self._mesh.devices.flat[0].platform == "cpu"

    def _chosen(
        self,
        make: Callable[[int], Lowered],
        candidates: Sequence[int],
        start: int,
        about: Mapping,
        least: str,
    ) -> int:
        """The last candidate that fits; they are in the order of the memory that they take."""
        there, whose = memory_there(self._mesh)
        asked = {
            "setting": self._setting,
            **self._identity,
            **about,
            "device": self._mesh.devices.flat[0].device_kind,
            "devices": self._mesh.size,
            "memory": there,
        }
        asked = json.loads(json.dumps(asked))
        known = self._read()
        number = next((entry["chosen"] for entry in known if entry["asked"] == asked), None)
        if number is None:
            text = f"{self._setting}=auto: asks the compiler what fits, which may take minutes"
            progress.say("sizing", text, setting=self._setting)
            limit = (1 - SPARE) * there
            place = last_fitting(lambda index: _peak(make(candidates[index])), limit, len(candidates), start)
            if place < 0:
                raise UserError(
                    f"{self._setting}: auto: not even {least} leaves {SPARE:.0%} of the "
                    f"{there / 1e9:.2f} GB free that {whose} has; divide the weights by config.model.fsdp"
                )
            number = candidates[place]
            if self._record:
                files.write_json(self._record, [*known, {"asked": asked, "chosen": number}])
        self._say(number, there, whose)
        return number

    def _say(self, number: int, there: int, whose: str) -> None:
        if number not in self._said:
            self._said.add(number)
            text = f"{self._setting}=auto: {number}, by the {there / 1e9:.2f} GB of {whose}"
            progress.say("size", text, setting=self._setting, chosen=number, memory=there)

    def _read(self) -> list[dict]:
        if self._record is None or not self._record.exists():
            return []
        try:
            known = files.read_json(self._record)
            return [entry for entry in known if isinstance(entry["chosen"], int) and entry["asked"]]
        except (UserError, TypeError, KeyError):  # damaged: chosen anew
            return []


def memory_there(mesh: Mesh) -> tuple[int, str]:
    """Bytes that a program may take on each device of the mesh, and what the device is called."""
    device = mesh.devices.flat[0]
    if device.platform == "cpu":
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return whole // mesh.size, "this machine"
    stats = device.memory_stats() or {}
    return int(stats.get("bytes_limit", 1 << 62)), str(device)


def _peak(program: Lowered) -> float:
    """Bytes on each device at the peak, by the compiler; infinite where it finds no room to compile."""
    try:
        return sum(memory_of(program.lowered.compile(), program.held))
    except jax.errors.JaxRuntimeError as error:
        if _TOO_LARGE in str(error):
            return float("inf")
        raise
