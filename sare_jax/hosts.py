"""Several hosts that run one command together: they meet, agree, and write everything once.

Every host runs the same command on a file system that all of them share. All hosts start computations on the
common devices in the same order. Work that needs no device is done by the first host while the others wait.
"""

import itertools
import os
import sys
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jax.experimental import multihost_utils

from sare_jax.errors import UserError

_WAIT_MS = 7 * 24 * 3600 * 1000  # longer than the first host ever works alone

# Environment variables whose value above 1 says that a launcher started several processes of this command.
_LAUNCHERS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")

_count = itertools.count()  # a barrier's name can be used once


def start(coordinator: str, num_processes: int, process_id: int) -> None:
    """Joins the other processes, if there are any. To be called before jax looks for devices.

    Args:
      coordinator: `address:port` on which the first process listens; empty asks the launcher (SLURM, Open
        MPI) or is for one process.
      num_processes: number of processes; 0 with an empty `coordinator`.
      process_id: this process's number, from 0; −1 with an empty `coordinator`.

    Raises:
      UserError: some of the three are missing or out of range, or the others cannot be reached.
    """
    if not coordinator and num_processes == 0 and process_id == -1:
        if any(int(os.environ.get(name) or 1) > 1 for name in _LAUNCHERS):
            _join(jax.distributed.initialize)
        return
    if not coordinator or not 0 <= process_id < num_processes:
        raise UserError(
            "--coordinator=ADDRESS:PORT, --num_processes=N and --process_id=0…N−1 belong together; got "
            f"{coordinator!r}, {num_processes} and {process_id}"
        )
    _join(
        partial(
            jax.distributed.initialize,
            coordinator_address=coordinator,
            num_processes=num_processes,
            process_id=process_id,
        )
    )


def several() -> bool:
    """Whether more than one process takes part; does not start jax's devices where there is but one."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not several() or jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process is here, if need be for days."""
    if several():
        # Over the coordinator, since collectives of the devices give up after a minute or so.
        from orbax.checkpoint import multihost

        multihost.get_barrier_sync_fn()(key=f"{name}/{next(_count)}", timeout_ms=_WAIT_MS)


def first_only(work: Callable[[], None], name: str) -> None:
    """Does `work` on the first process; the others come back when it is done."""
    if is_first():
        work()
    barrier(name)


def anywhere(here: bool) -> bool:
    """Whether `here` is true on any process. All have to call it together, and get the same answer."""
    if not several():
        return here
    return bool(np.any(multihost_utils.process_allgather(np.asarray(here))))


def _join(initialize: Callable[[], None]) -> None:
    # What XLA's own CPU client offers for sums over processes; without effect on other backends.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        initialize()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--coordinator: the processes did not find each other: {error}") from None
    if not is_first():
        # Only the first process prints; errors of all still go to standard error.
        os.environ["TQDM_DISABLE"] = "1"
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends
