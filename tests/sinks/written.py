"""What sinks have written, read back: step → name → number."""

import json
from pathlib import Path

Numbers = dict[int, dict[str, float]]
_BLOCK, _BEGIN = 32768, 7  # bytes of a block of W&B's log, and of its first header
_WHOLE, _FIRST = 1, 2  # kinds of chunks: a record alone, or its beginning


def in_tensorboard(folder: Path) -> Numbers:
    """By TensorBoard's own reader; an error where a number is there twice."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
    found: Numbers = {}
    for name in events.Tags()[SCALARS]:
        for event in events.Scalars(name):
            assert name not in found.setdefault(event.step, {})
            found[event.step][name] = event.value
    return found


def in_wandb(folder: Path) -> Numbers:
    """From the log of the one offline run; an error where a number is there twice."""
    from wandb.proto.wandb_internal_pb2 import Record

    (log,) = folder.rglob("*.wandb")
    found: Numbers = {}
    for content in _records(log.read_bytes()):
        history = Record.FromString(content).history
        if not history.item:
            continue
        items = {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in history.item}
        numbers = {name: value for name, value in items.items() if not name.startswith("_")}
        step = found.setdefault(history.step.num, {})
        assert not set(step) & set(numbers)
        step |= numbers
    return found


def _records(content: bytes) -> list[bytes]:
    """The records of a log in LevelDB's form: chunks of checksum, length and kind, in blocks."""
    records: list[bytes] = []
    place = _BEGIN
    while place + _BEGIN <= len(content):
        if (left := _BLOCK - place % _BLOCK) < _BEGIN:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        place += _BEGIN
        chunk = content[place : place + length]
        place += length
        if kind in (_WHOLE, _FIRST):
            records.append(chunk)
        else:
            records[-1] += chunk
    return records
