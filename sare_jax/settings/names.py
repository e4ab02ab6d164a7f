"""Names of runs and attacks, which files and folders of the workdir are called after."""

LONGEST = 200  # bytes; file systems take 255, the ending included


def can_name_a_file(name: str) -> bool:
    """Whether a file can be called so, with an ending."""
    return 0 < len(name.encode(errors="replace")) <= LONGEST and not {"/", "\0"} & set(name)
