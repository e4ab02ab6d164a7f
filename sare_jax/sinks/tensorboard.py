"""TensorBoard, without TensorFlow: `tensorboard --logdir WORKDIR/tensorboard` shows all runs of a workdir."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from sare_jax.sinks import Target, Write

__all__ = ["tensorboard"]

_SECONDS = 10  # between two writings to the disk


@contextmanager
def tensorboard(target: Target) -> Iterator[Write]:
    """Writes scalars to an event file."""
    writer = EventFileWriter(str(target.folder), flush_secs=_SECONDS)
    try:
        # A TensorBoard that is open already drops what it has of this run.
        writer.add_event(
            Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START))
        )

        def write(step: int, values: Mapping[str, float]) -> None:
            scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
            writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

        yield write
    finally:
        writer.close()
