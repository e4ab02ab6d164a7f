"""Sizes that are multiples of something: rows of devices, lengths of buckets."""


def round_up(count: int, multiple: int) -> int:
    """The smallest multiple that is at least `count`."""
    return -(-count // multiple) * multiple
