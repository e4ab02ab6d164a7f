"""Compiled programs are kept in the workdir, unless jax keeps them elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

from sare_jax.programs import FOLDER, processor

SCRIPT = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from sare_jax.programs import kept_in
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
before = jax.config.jax_compilation_cache_dir
for workdir in sys.argv[1:]:
    with kept_in(Path(workdir)):
        jax.block_until_ready(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((4, 4))))
assert jax.config.jax_compilation_cache_dir == before
"""


def compile_in(*workdirs: Path, **environment: str) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, workdirs)], env=kept | environment, check=True, timeout=120
    )


def programs(workdir: Path) -> dict[str, bytes]:
    folder = workdir / FOLDER / processor()
    return {path.name: path.read_bytes() for path in folder.glob("*-cache")}


def test_each_workdir_keeps_its_own_and_finds_them_again(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    compile_in(first, second)
    kept = programs(first)
    assert kept
    assert programs(second)
    compile_in(first)
    assert programs(first) == kept


def test_they_stay_where_jax_keeps_them_already(tmp_path):
    compile_in(tmp_path / "run", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "shared"))
    assert not (tmp_path / "run").exists()
    assert list((tmp_path / "shared").glob("*-cache"))
