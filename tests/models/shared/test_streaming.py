import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from jax.sharding import NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from safetensors.numpy import save_file

from sare_jax.models.shared import streaming, torch_pickle
from sare_jax.models.shared.entry import Entry
from sare_jax.models.shared.quantization import quantize
from sare_jax.models.shared.safetensors_io import read_header
from sare_jax.models.shared.streaming import read_int8, read_parameter

LAYERS, OUT, IN = 4, 24, 16
STACKED = Entry("up/kernel", "layers.{}.up.weight", (1, 0), LAYERS)
PLAIN = Entry("head/kernel", "layers.0.up.weight", (1, 0))
BIASES = Entry("up/bias", "layers.{}.up.bias", (0,), LAYERS)
PATCHES = Entry("patches", "patches.weight", (2, 3, 1, 0))
SOURCE_DTYPES = [np.float16, np.float32, ml_dtypes.bfloat16]


@pytest.fixture(params=["whole", "by layers", "by layers, permuted on the device"], autouse=True)
def way(request, monkeypatch):
    """How a parameter is put together: small ones on the host, large ones on a CPU or on another device."""
    if request.param != "whole":
        monkeypatch.setattr(streaming, "SMALL", 0)
    if "permuted" in request.param:
        sent = lambda layer, axes, device: (jax.device_put(layer, device), axes)  # noqa: E731
        monkeypatch.setattr(streaming, "_sent", sent)
    return request.param


@pytest.fixture(scope="module")
def tensors(tmp_path_factory):
    """dtype -> (arrays, where they lie)."""
    rng = np.random.default_rng(0)
    found = {}
    for dtype in SOURCE_DTYPES:
        arrays = {"patches.weight": rng.normal(size=(8, 3, 5, 6)).astype(dtype)}
        for layer in range(LAYERS):
            arrays[f"layers.{layer}.up.weight"] = rng.normal(size=(OUT, IN)).astype(dtype)
            arrays[f"layers.{layer}.up.bias"] = rng.normal(size=(OUT,)).astype(dtype)
        file = tmp_path_factory.mktemp(np.dtype(dtype).name) / "model.safetensors"
        save_file(arrays, file)
        found[np.dtype(dtype)] = arrays, read_header(file)[0]
    return found


def wanted(entry, arrays, dtype):
    layers = [arrays[name].transpose(entry.axes).astype(dtype) for name in entry.names()]
    return np.stack(layers) if entry.layers else layers[0]


def read(entry, tensors, dtype, sharding):
    arrays, places = tensors
    expected = wanted(entry, arrays, dtype)
    sources = [places[name] for name in entry.names()]
    return expected, read_parameter(entry, sources, expected.shape, np.dtype(dtype), sharding)


@pytest.mark.parametrize("source", SOURCE_DTYPES)
@pytest.mark.parametrize("target", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("entry", [STACKED, PLAIN, BIASES, PATCHES], ids=lambda entry: entry.path)
def test_every_dtype_is_cast_once_and_axes_are_in_order(tensors, entry, source, target):
    device = SingleDeviceSharding(jax.devices()[0])
    expected, array = read(entry, tensors[np.dtype(source)], target, device)
    assert array.dtype == target
    np.testing.assert_array_equal(np.asarray(array), expected)


@pytest.mark.parametrize(
    ("entry", "spec"),
    [
        (STACKED, P(None, None, "fsdp")),
        (STACKED, P(None, ("data", "fsdp"), None)),
        (STACKED, P("fsdp", "data", None)),
        (STACKED, P()),
        (PLAIN, P("data", "fsdp")),
        (PLAIN, P(None, "data")),
        (BIASES, P(None, "fsdp")),
        (BIASES, P("data")),
        (PATCHES, P(None, "data", None, "fsdp")),
    ],
    ids=str,
)
def test_any_sharding_gives_the_same_parameter(tensors, entry, spec):
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    sharding = NamedSharding(mesh, spec)
    expected, array = read(entry, tensors[np.dtype(np.float16)], ml_dtypes.bfloat16, sharding)
    assert array.sharding == sharding
    np.testing.assert_array_equal(np.asarray(array), expected)
    for shard in array.addressable_shards:
        np.testing.assert_array_equal(np.asarray(shard.data), expected[shard.index])


@pytest.mark.parametrize("source", SOURCE_DTYPES)
@pytest.mark.parametrize(
    "spec", [P(), P(None, None, "fsdp"), P(None, None, ("data", "fsdp")), P("data")], ids=str
)
def test_layers_quantised_as_they_come_are_those_quantised_at_once(tensors, source, spec):
    arrays, places = tensors[np.dtype(source)]
    sources = [places[name] for name in STACKED.names()]
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    whole = wanted(STACKED, arrays, np.float32)
    kernel, scale = read_int8(STACKED, sources, whole.shape, NamedSharding(mesh, spec))
    for found, at_once in zip((kernel, scale), jax.vmap(quantize)(whole), strict=True):
        assert found.dtype == at_once.dtype
        np.testing.assert_array_equal(np.asarray(found), np.asarray(at_once))
    for kernel_part, scale_part in zip(kernel.addressable_shards, scale.addressable_shards, strict=True):
        layers, _, channels = kernel_part.index
        assert scale_part.index == (layers, channels)
        assert scale_part.device == kernel_part.device


def test_a_kernel_divided_along_its_inputs_cannot_be_quantised(tensors):
    arrays, places = tensors[np.dtype(np.float32)]
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))
    with pytest.raises(ValueError, match="divided along its inputs"):
        read_int8(
            STACKED,
            [places[name] for name in STACKED.names()],
            wanted(STACKED, arrays, np.float32).shape,
            NamedSharding(mesh, P(None, "fsdp")),
        )


def test_each_part_is_read_once_whatever_the_number_of_its_replicas(tensors, monkeypatch):
    reads = []
    original = streaming._part
    monkeypatch.setattr(streaming, "_part", lambda *args: reads.append(args[2]) or original(*args))
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    read(STACKED, tensors[np.dtype(np.float32)], np.float32, NamedSharding(mesh, P(None, None, "fsdp")))
    assert len(reads) == len({str(index) for index in reads}) == 4


def test_every_half_precision_value_arrives(tmp_path):
    """Subnormal ones too, whose exponents bfloat16 has."""
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)].reshape(-1, 32)
    save_file({"x": values}, tmp_path / "x.safetensors")
    source = read_header(tmp_path / "x.safetensors")[0]["x"]
    for dtype in (np.float32, ml_dtypes.bfloat16):
        array = read_parameter(
            Entry("x", "x", (1, 0)),
            [source],
            values.T.shape,
            np.dtype(dtype),
            SingleDeviceSharding(jax.devices()[0]),
        )
        np.testing.assert_array_equal(np.asarray(array), values.T.astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_parameter_outlives_a_change_of_its_file(tmp_path, dtype):
    """A mapped file must not become the parameter's own memory."""
    values = np.ones((64, 64), dtype)
    save_file({"x": values}, tmp_path / "x.safetensors")
    source = read_header(tmp_path / "x.safetensors")[0]["x"]
    sharding = SingleDeviceSharding(jax.devices()[0])
    arrays = [
        read_parameter(Entry("x", "x", axes), [source], (64, 64), np.dtype(dtype), sharding)
        for axes in ((0, 1), (1, 0))
    ]
    with (tmp_path / "x.safetensors").open("r+b") as stream:
        stream.seek(source.start)
        stream.write(bytes(source.num_bytes))
    for array in arrays:
        np.testing.assert_array_equal(np.asarray(array), values)


def test_layers_are_written_in_place():
    whole = jnp.zeros((4, 8, 8), jnp.bfloat16)
    place = whole.unsafe_buffer_pointer()
    after = streaming._write(whole, jnp.ones((8, 8), jnp.float16), (1, 0), np.array([2, 0, 0], np.int32))
    assert after.unsafe_buffer_pointer() == place
    assert float(after.sum()) == 64


def test_transposed_tensor_of_a_torch_file(tmp_path):
    """torch.save keeps strides."""
    values = torch.arange(24.0).reshape(4, 6)
    torch.save({"x": values.t()}, tmp_path / "x.bin")
    source = torch_pickle.read_file(tmp_path / "x.bin")["x"]
    assert not source.map().flags.c_contiguous
    for axes in ((0, 1), (1, 0)):
        shape = tuple(source.shape[axis] for axis in axes)
        sharding = SingleDeviceSharding(jax.devices()[0])
        array = read_parameter(Entry("x", "x", axes), [source], shape, np.dtype(np.float32), sharding)
        np.testing.assert_array_equal(array, values.t().permute(axes))
