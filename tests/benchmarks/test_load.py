import json
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file
from transformers import LlavaConfig as HfLlavaConfig
from transformers import LlavaForConditionalGeneration

from benchmarks import load
from sare_jax.errors import UserError
from sare_jax.models.llava.config import LlavaConfig
from sare_jax.models.llava.names import hub_name
from sare_jax.models.shared.safetensors_io import read_header, read_tensors

SCALE = 0.01

MEASURED = """
import json, sys
import jax
import numpy as np
from pathlib import Path
from benchmarks.load import peak_anonymous
from sare_jax.models.shared.entry import Entry
from sare_jax.models.llava.names import hub_name
from sare_jax.models.shared.safetensors_io import read_header
from sare_jax.models.shared.streaming import read_parameter

places = read_header(Path(sys.argv[1]))[0]
entry = Entry("up/kernel", "layers.{}.weight", (1, 0), len(places))
sources = [places[name] for name in entry.names()]
shape = (len(sources), *sources[0].shape[::-1])
sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])

with peak_anonymous() as peak:
    array = read_parameter(entry, sources, shape, np.dtype(jax.numpy.bfloat16), sharding)
print(json.dumps([peak.grown, array.nbytes]))
"""


def test_a_large_stack_never_exists_twice(tmp_path):
    layers, side = 24, 2048
    layer = np.arange(side * side, dtype=np.uint32).reshape(side, side) % (1 << 14)
    half = layer.astype(np.uint16).view(np.float16)
    save_file({f"layers.{number}.weight": half for number in range(layers)}, tmp_path / "x.safetensors")
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "x.safetensors")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, size = json.loads(result.stdout)
    assert size == 2 * layers * side * side
    # A layer is a 24th, and compiling takes some 50 MB, a quarter; a second copy would make it 2.
    assert 1 <= grown / size < 1.5


def test_anonymous_memory_is_measured_and_mapped_files_are_not(tmp_path):
    np.zeros(1 << 26, np.uint8).tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.uint8, mode="r")
    with load.peak_anonymous() as peak:
        mapped.max()
    assert peak.grown < 1 << 24
    with load.peak_anonymous() as peak:
        fresh = mmap.mmap(-1, 1 << 26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        np.frombuffer(fresh, np.uint8)[:] = 1
    assert peak.grown > 0.9 * (1 << 26)


def test_checkpoint_has_the_names_and_shapes_of_the_published_form(tmp_path):
    raw = load.hf_config(SCALE)
    model = LlavaForConditionalGeneration(HfLlavaConfig.from_dict(raw))
    model.save_pretrained(tmp_path)
    published = {hub_name(name): tensor.shape for name, tensor in read_tensors(tmp_path).items()}
    written = {name: shape for name, _, shape in load.checkpoint_layout(LlavaConfig.from_hf(raw))}
    assert written == published


def test_full_size_is_that_of_llava_7b():
    layout = load.checkpoint_layout(LlavaConfig.from_hf(load.hf_config(1.0)))
    assert sum(int(np.prod(shape)) for *_, shape in layout) == 7_063_427_072
    plan = load.plan_shards(layout)
    assert [entry for shard in plan for entry in shard] == layout
    assert len(plan) == 3
    assert all(sum(2 * int(np.prod(shape)) for *_, shape in shard) <= 5e9 for shard in plan)


def test_small_run_prints_the_ratios_and_cleans_up(tmp_path, capsys):
    folder = tmp_path / "checkpoint"
    load.main(["--folder", str(folder), "--scale", str(SCALE), "--keep"])
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) == 3
    stamps = [file.stat().st_mtime_ns for file in files]
    assert all(np.isfinite(t.map()).all() for file in files for t in read_header(file)[0].values())
    load.main(["--folder", str(folder), "--scale", str(SCALE), "--keep"])
    assert [file.stat().st_mtime_ns for file in files] == stamps
    load.main(["--folder", str(folder), "--scale", str(SCALE)])
    assert not folder.exists()
    begins = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    for name in ("peak anonymous ÷ weights", "plain read", "load", "load ÷ plain read"):
        assert begins.count(name) == 3


def test_disk_space_is_asked_for_first(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"14\.1 GB of disk are needed.*--folder"):
        load.main([])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    with pytest.raises(UserError, match="not empty"):
        load.main(["--folder", str(tmp_path / "photos"), "--scale", str(SCALE)])
    assert (tmp_path / "photos" / "one.jpg").exists()
    free = os.statvfs(tmp_path)
    usage = (free.f_blocks, 0, 10**9)
    monkeypatch.setattr(load.shutil, "disk_usage", lambda _: type("Usage", (), {"free": usage[2]}))
    with pytest.raises(UserError, match=r"14\.1 GB are needed, 1\.0 GB are free"):
        load.main(["--folder", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_wrong_values_are_noticed(tmp_path, monkeypatch):
    read = load.load_model

    def twice(folder, dtype):
        loaded = read(folder, dtype=dtype)
        frozen = load.jax.tree.map(lambda leaf: leaf * 2, loaded.frozen)
        return load.LoadedModel(**{**vars(loaded), "frozen": frozen})

    monkeypatch.setattr(load, "load_model", twice)
    with pytest.raises(AssertionError, match="is not what its file holds"):
        load.main(["--folder", str(tmp_path / "x"), "--scale", str(SCALE)])
