import os
import pickle
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from sare_jax.errors import UserError
from sare_jax.models.shared.torch_pickle import read_file, read_tensors, write_file
from sare_jax.models.shared.weight_files import TORCH

TENSORS = {
    "a": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4),
    "b": torch.linspace(-2, 2, 7).half(),
    "c": torch.linspace(-2, 2, 6).bfloat16().reshape(3, 2),
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "cut": torch.arange(20.0)[5:9],
    "trained": torch.nn.Parameter(torch.ones(3)),
    "scalar": torch.tensor(3),
    "empty": torch.zeros(0, 4),
}


class Payload:
    """Pickled, it is a command that leaves a file behind when it is unpickled by a reader that runs it."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def file(tmp_path):
    torch.save(TENSORS, tmp_path / TORCH.single)
    return tmp_path / TORCH.single


def test_reads_what_torch_writes(file):
    tensors = read_file(file)
    assert tensors.keys() == TENSORS.keys()
    for name, expected in TENSORS.items():
        array = tensors[name].map()
        np.testing.assert_array_equal(array.astype(np.float64), expected.detach().double().numpy())
        assert not array.flags.writeable
        assert (tensors[name].shape, tensors[name].num_bytes) == (tuple(expected.shape), expected.nbytes)
    assert tensors["c"].dtype == ml_dtypes.bfloat16


def test_a_folder_of_one_file_reads_alike(file):
    assert read_tensors(file.parent).keys() == TENSORS.keys()


@pytest.mark.parametrize("part", ["", "model"])
def test_what_is_written_is_tensors_alone_and_reads_back(file, part):
    tensors = {name: tensor.map() for name, tensor in read_file(file).items()}
    write_file(file.with_name("again.pth"), tensors, part)
    state = torch.load(file.with_name("again.pth"), weights_only=True)
    assert list(state) == ([part] if part else list(TENSORS))
    again = read_file(file.with_name("again.pth"), part)
    for name, array in tensors.items():
        assert again[name].dtype == array.dtype
        np.testing.assert_array_equal(again[name].map(), array)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's memory counters")
def test_tensors_stay_in_the_file(tmp_path):
    """64 MiB of bfloat16 are mapped and summed up, and take no memory of their own."""

    def own_kib() -> int:
        return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    torch.save({"w": torch.ones(32, 2**20, dtype=torch.bfloat16)}, tmp_path / "w.bin")
    read_file(tmp_path / "w.bin")["w"].map()[0].sum(dtype=np.float32)  # what is imported on the way
    before = own_kib()
    rows = read_file(tmp_path / "w.bin")["w"].map()
    assert sum(float(row[::512].sum(dtype=np.float32)) for row in rows) == 2**16
    assert own_kib() - before < 16 * 1024


def test_a_payload_is_refused_and_does_not_run(tmp_path):
    mark, file = tmp_path / "ran", tmp_path / "evil.bin"
    torch.save({"w": torch.ones(2), "x": Payload(mark)}, file)
    with pytest.raises(UserError, match=r"evil\.bin: refused, since it asks for \w+\.system") as error:
        read_file(file)
    assert "\n" not in str(error.value)
    assert not mark.exists()
    command, arguments = Payload(mark).__reduce__()
    command(*arguments)
    assert mark.exists()  # so it would have been seen


@pytest.mark.parametrize("legacy", ["payload", "tensors"])
def test_a_bare_pickle_is_refused_unread(tmp_path, legacy):
    mark, file = tmp_path / "ran", tmp_path / "old.bin"
    if legacy == "payload":
        file.write_bytes(pickle.dumps({"x": Payload(mark)}))
    else:
        torch.save(TENSORS, file, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"old\.bin: a bare pickle.*safetensors"):
        read_file(file)
    assert not mark.exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", range(6))
def test_another_protocol_of_pickle_reads_alike_or_is_one_line(tmp_path, protocol):
    file = tmp_path / "p.bin"
    torch.save({"w": torch.arange(3.0)}, file, pickle_protocol=protocol)
    if protocol in (2, 3):
        np.testing.assert_array_equal(read_file(file)["w"].map(), [0, 1, 2])
    else:
        with pytest.raises(UserError, match=r"p\.bin: damaged, or pickled in another protocol.*save its"):
            read_file(file)


@pytest.mark.parametrize("keep", [0, 3, 10, 700, -1])
def test_a_truncated_file_is_named(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"pytorch_model\.bin: truncated or .*download it again"):
        read_file(file)


def test_a_damaged_file_is_named(file):
    content = bytearray(file.read_bytes())
    place = content.index(b"data.pkl") + 60
    content[place : place + 40] = bytes(40)
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"pytorch_model\.bin: (truncated or damaged|refused)"):
        read_file(file)


def test_a_page_saved_in_place_of_a_file_is_named(tmp_path):
    (tmp_path / "x.bin").write_text("<!DOCTYPE html><html><body>Access denied</body></html>")
    with pytest.raises(UserError, match=r"x\.bin: truncated or not a torch file"):
        read_file(tmp_path / "x.bin")
    with pytest.raises(UserError, match=r"y\.bin: no such file"):
        read_file(tmp_path / "y.bin")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(2), "holds a Tensor, need tensors by name"),
        ({"model": {"w": torch.ones(2)}, "epoch": 3, "w": torch.ones(2)}, "no tensor is model, epoch$"),
        ({"w": torch.ones(2).to_sparse()}, "w is float32, sparse_coo, which is not read here"),
        ({"w": torch.ones(2).to(torch.float8_e4m3fn)}, "w is float8_e4m3fn, strided, which is not read"),
    ],
)
def test_what_is_no_plain_state_is_refused_by_name(tmp_path, content, message):
    torch.save(content, tmp_path / "x.bin")
    with pytest.raises(UserError, match=message):
        read_file(tmp_path / "x.bin")


def test_names_that_are_no_text(tmp_path):
    torch.save({1: torch.ones(2), "b": torch.ones(2)}, tmp_path / "x.bin")
    with pytest.raises(UserError, match=r"x\.bin: need tensors by name, but 1 is no text"):
        read_file(tmp_path / "x.bin")


@pytest.mark.parametrize("view", [lambda t: t.expand(10**9, 4), lambda t: t.as_strided((3, 2), (1, 1))])
def test_views_that_repeat_what_is_stored(tmp_path, view):
    torch.save({"a": view(torch.ones(4))}, tmp_path / "x.bin")
    with pytest.raises(UserError, match=r"x\.bin: a is larger than what is stored of it"):
        read_file(tmp_path / "x.bin")


def test_transposed_and_shared_tensors_are_read(tmp_path):
    whole = torch.arange(6.0).reshape(2, 3)
    torch.save({"a": whole, "b": whole.T, "c": whole[1]}, tmp_path / "x.bin")
    found = read_file(tmp_path / "x.bin")
    np.testing.assert_array_equal(found["b"].map(), whole.numpy().T)
    np.testing.assert_array_equal(found["c"].map(), whole.numpy()[1])


def test_a_pointer_of_git_lfs_is_called_so(tmp_path):
    (tmp_path / "x.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match=r"pointer of git-lfs.*git lfs pull"):
        read_file(tmp_path / "x.bin")
