"""Settings that every test shares: programs compiled once, eight simulated devices, exact float32."""

import gc
import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
# Nearly all the time of the tests goes into compiling small programs. This flag (fusions are compiled the
# older way) and `quick_compile` make that two to three times as fast. They change how fast a program runs and
# how its sums are rounded, not what is asserted.
# The jax of Python 3.12 and newer has no such flag, and XLA ends a process that names one it does not know.
QUICK_COMPILE = "--xla_cpu_use_fusion_emitters=false" if sys.version_info < (3, 12) else ""
# Tracing makes so many objects that Python looks for garbage all the time: 40% of what tracing a step takes.
RARE_COLLECTION = (20_000, 20, 50)
MOST_MAPS = 20_000  # memory maps of a worker before it drops its compiled programs
LARGEST_CACHE = 1 << 30  # bytes
# Handed to workers before all others, so that no worker is left alone with one of them at the end.
DEAREST = ("tests/test_road.py", "tests/test_scale.py", "tests/training/", "tests/test_plan.py")


def pytest_configure(config: pytest.Config) -> None:
    """Sets up jax before a test imports it; the commands that tests start inherit the environment."""
    if not hasattr(config, "workerinput"):  # a worker of pytest-xdist inherits it too
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_compiled_programs()))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
        os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_COMPILE}".strip()
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch: the workers keep the cores busy
    import jax
    from absl import flags

    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_default_matmul_precision", "float32")
    gc.set_threshold(*RARE_COLLECTION)
    flags.FLAGS(sys.argv[:1])  # grain reads absl flags, which nobody parses under pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the dearest files first; `--no-loadscope-reorder` in the Makefile keeps them there."""
    items.sort(key=lambda item: [not item.nodeid.startswith(prefix) for prefix in DEAREST])


def _compiled_programs() -> Path:
    """Folder of the programs that earlier runs compiled with this jaxlib on this kind of processor.

    Workers share it: jax names a program by a hash of all that it was made from, and compiles again what it
    cannot read. It begins anew when it has grown too large.
    """
    from sare_jax.programs import processor

    name = f"{importlib.metadata.version('jaxlib')}-{processor()}"
    programs = ROOT / ".jax_cache" / "tests"
    if sum(path.stat().st_size for path in programs.glob("*/*")) > LARGEST_CACHE:
        shutil.rmtree(programs, ignore_errors=True)
    return programs / name


@pytest.fixture(scope="module", autouse=True)
def quick_compile(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compiles with little optimisation, except in modules marked `optimised`, which compute much."""
    import jax

    optimised = request.node.get_closest_marker("optimised") is not None
    jax.config.update("jax_disable_most_optimizations", not optimised)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
    _give_back_maps()


def _give_back_maps() -> None:
    """Drops compiled programs when a worker holds many.

    Each lies in memory maps of its own, of which Linux gives a process 65,530. Without one, the next program
    ends the process.
    """
    import jax

    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """pytest's, without Ray: threads that it leaves in a worker log into whichever test runs then."""
    caplog.handler.addFilter(lambda record: record.name.partition(".")[0] != "ray")
    return caplog


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real caption and question files; not part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data not found at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def coco80(shared_data, tmp_path_factory) -> Path:
    """80 real COCO images with references and instances, as a COCO folder."""
    from tests.evaluation.small_worlds import write_coco  # imports what most tests have no use for

    rows = [json.loads(line) for line in (shared_data / "coco80_captions_boxes.jsonl").open()]
    return write_coco(
        tmp_path_factory.mktemp("coco80"),
        {int(row["id"]): [box["category"] for box in row["instances"]] for row in rows},
        {int(row["id"]): row["captions"] for row in rows},
    )
