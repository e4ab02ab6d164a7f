import json
import os

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sare_jax.errors import UserError
from sare_jax.models.shared.safetensors_io import INDEX, read_header, read_tensors, write_file
from sare_jax.models.shared.weight_files import shards
from tests.faults.mutate import mutants

ARRAYS = {
    "a": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "b": np.linspace(-2, 2, 7).astype(np.float16),
    "c": np.linspace(-2, 2, 6).astype(ml_dtypes.bfloat16).reshape(3, 2),
    "scalar": np.array(3, np.int64),
    "empty": np.zeros((0, 4), np.float32),
}


@pytest.fixture
def file(tmp_path):
    save_file(ARRAYS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"


def write_index(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_reads_what_the_library_writes(file):
    tensors, metadata = read_header(file)
    assert metadata == {"format": "pt"}
    assert tensors.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name].map(), array)
    np.testing.assert_array_equal(tensors["a"].map()[1, :, 2:], ARRAYS["a"][1, :, 2:])


def test_the_library_reads_what_is_written(tmp_path):
    path = tmp_path / "out.safetensors"
    write_file(path, [(k, v.dtype, v.shape) for k, v in ARRAYS.items()], ARRAYS.values(), {"format": "pt"})
    with safe_open(path, "np") as stream:
        assert stream.metadata() == {"format": "pt"}
    for name, array in load_file(path).items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_data_that_differs_from_its_announcement_is_refused(tmp_path):
    layout = [("a", np.dtype(np.float32), (2,))]
    with pytest.raises(ValueError, match="announced"):
        write_file(tmp_path / "x", layout, [np.zeros(2, np.float16)], {})


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_truncated_file_is_named(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"model\.safetensors: .*download it again"):
        read_header(file)


def test_page_saved_in_place_of_a_file_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("<!DOCTYPE html><html><body>Access denied</body></html>" * 20)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        read_header(path)


def test_ex_03_missing_shard_is_named(tmp_path):
    save_file({"a": ARRAYS["a"]}, tmp_path / "model-00001-of-00002.safetensors")
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    write_index(tmp_path, names)
    with pytest.raises(UserError, match=r"model-00002-of-00002\.safetensors"):
        shards(tmp_path)


def test_ex_03_index_and_shards_have_to_agree(tmp_path):
    save_file({"a": ARRAYS["a"], "b": ARRAYS["b"]}, tmp_path / "model-00001-of-00001.safetensors")
    write_index(tmp_path, {"a": "model-00001-of-00001.safetensors", "z": "model-00001-of-00001.safetensors"})
    with pytest.raises(UserError, match="disagree about b, z"):
        read_tensors(tmp_path)


def test_tensor_in_two_shards_is_refused(tmp_path):
    for number in (1, 2):
        save_file({"a": ARRAYS["a"]}, tmp_path / f"{number}.safetensors")
    write_index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    with pytest.raises(UserError, match="a is also in"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
def test_index_without_a_map_is_named(tmp_path, content):
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(UserError, match=r"index\.json: has no weight_map"):
        read_tensors(tmp_path)


def raw_file(path, header, data=bytes(16)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(shape, start, end, dtype="I32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


WHOLE = entry([4], 0, 16)
HOSTILE = {
    "an overlap": {"a": WHOLE, "b": entry([2], 8, 16)},
    "two on one span": {"a": WHOLE, "b": WHOLE},
    "a hole": {"a": entry([1], 0, 4), "b": entry([2], 8, 16)},
    "a hole at the start": {"a": entry([2], 8, 16)},
    "bytes of nobody": {"a": entry([2], 0, 8)},
    "behind the file": {"a": entry([8], 0, 32)},
    "negative offsets": {"a": entry([4], -8, 8)},
    "offsets backwards": {"a": entry([4], 16, 0)},
    "negative shape": {"a": entry([-1, -4], 0, 16)},
    "a shape that overflows": {"a": entry([2**62, 4], 0, 16)},
    "a shape beyond 64 bits": {"a": entry([2**70], 0, 16)},
    "offsets beyond 64 bits": {"a": entry([4], 0, 2**70)},
    "a float in the shape": {"a": entry([4.0], 0, 16)},
    "text in the shape": {"a": entry(["4"], 0, 16)},
    "a list in the shape": {"a": entry([[1]], 0, 16)},
    "one offset": {"a": {"dtype": "I32", "shape": [4], "data_offsets": [0]}},
    "no dtype": {"a": {"shape": [4], "data_offsets": [0, 16]}},
    "a dtype that is none": {"a": entry([4], 0, 16, dtype="F8_E4M3")},
    "an entry that is a list": {"a": [1]},
    "metadata of numbers": {"__metadata__": {"a": 1}, "b": WHOLE},
    "a list": [WHOLE],
    "a name twice": b'{"a": %s, "a": %s}' % ((json.dumps(WHOLE).encode(),) * 2),
    "nesting": b'{"a": ' + b"[" * 100_000,
    "a long number": b'{"a": ' + b"9" * 5000 + b"}",
    "no UTF-8": b'{"\xff": 1}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_rules_of_the_format_are_checked(tmp_path, name):
    path = raw_file(tmp_path / "x.safetensors", HOSTILE[name])
    with pytest.raises(UserError, match=r"x\.safetensors") as caught:
        read_header(path)
    assert len(str(caught.value)) < 600


def test_empty_tensors_take_no_room(tmp_path):
    arrays = {"e": np.zeros((0, 3), np.float32), "a": np.ones(2, np.float32), "z": np.zeros(0, np.int8)}
    save_file(arrays, tmp_path / "x.safetensors")
    assert read_header(tmp_path / "x.safetensors")[0].keys() == arrays.keys()


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    with path.open("wb") as stream:
        stream.write((6 << 30).to_bytes(8, "little"))
        stream.truncate(7 << 30)
    with pytest.raises(UserError, match="more than the format allows"):
        read_header(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="no regular file"):
        read_header(tmp_path / "x.safetensors")


def test_a_pointer_of_git_lfs_is_called_so(tmp_path):
    (tmp_path / "x.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    with pytest.raises(UserError, match=r"pointer of git-lfs.*git lfs pull"):
        read_header(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "files", [{"a": ["x"]}, {"a": 1.5}, {"a": None}, {"a": "n" * 5000}, {"a": "../x"}, {"a": "x\0y"}]
)
def test_an_index_that_names_no_files(tmp_path, files):
    write_index(tmp_path, files)
    with pytest.raises(UserError, match=r"index\.json") as caught:
        read_tensors(tmp_path)
    assert len(str(caught.value)) < 600


def test_mutated_headers_are_tensors_inside_the_file_or_one_line(file, tmp_path):
    """What is accepted can be mapped: every tensor lies in the file, and has the shape that it says."""
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    accepted = 0
    for content in mutants(header, 3000, seed=0):
        path = raw_file(tmp_path / "x.safetensors", content, data)
        try:
            tensors, _ = read_header(path)
        except UserError:
            continue
        accepted += 1
        assert sum(tensor.map().nbytes for tensor in tensors.values()) == len(data)
    assert accepted
