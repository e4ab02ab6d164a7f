"""Compiled programs, kept in the workdir, so that a run that goes on does not compile them again."""

import contextlib
import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path

FOLDER = ".programs"


@contextlib.contextmanager
def kept_in(workdir: Path) -> Iterator[None]:
    """Has jax keep the programs that take long to compile in `WORKDIR/.programs`, and read them from there.

    Where jax keeps them somewhere already (`JAX_COMPILATION_CACHE_DIR`), they stay there. A file that cannot
    be read or written costs its compilation, and no more.

    Args:
      workdir: folder of the run.
    """
    import jax

    if jax.config.values["jax_compilation_cache_dir"]:
        yield
        return
    # jax names a program by what it was made from. For a CPU that leaves out which instructions the processor
    # has, so that a workdir on another machine would bring programs that cannot run there.
    folder = workdir / FOLDER / processor()
    _keep_in(str(folder))
    try:
        yield
    finally:
        _keep_in(None)


def processor() -> str:
    """Names the kind of processor, by its instructions."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:12]}"


def _keep_in(folder: str | None) -> None:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()  # or jax would go on with the folder that it used first
