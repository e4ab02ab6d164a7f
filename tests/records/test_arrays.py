"""An npz file is read only where sizes and checksums are what it says, and never a pickle."""

import io
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from sare_jax.errors import UserError
from sare_jax.records.arrays import read_arrays, write_arrays

ARRAYS = {"a": np.arange(6).reshape(2, 3), "t": np.array(["x", "äö🐶"]), "f": np.asfortranarray(np.eye(3))}


def test_round_trip(tmp_path):
    write_arrays(tmp_path / "a.npz", ARRAYS)
    np.savez_compressed(tmp_path / "b.npz", **ARRAYS)
    for name in ("a.npz", "b.npz"):
        found = read_arrays(tmp_path / name)
        assert found.keys() == ARRAYS.keys()
        for key, array in ARRAYS.items():
            np.testing.assert_array_equal(found[key], array)
            assert found[key].dtype == array.dtype


def header(text: str) -> bytes:
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1")


def zipped(content: bytes, compression=zipfile.ZIP_STORED, name="a.npy", times=1) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for _ in range(times):
            archive.writestr(name, content)
    return stream.getvalue()


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def patched(content: bytes, flag: int = 0, method: int = 0) -> bytes:
    """With another flag and method in both of a zip's headers."""
    content = bytearray(content)
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + place
        content[at : at + 4] = struct.pack("<HH", flag, method)
    return bytes(content)


SHAPE = "{'descr': '<i8', 'fortran_order': False, 'shape': (%s,), }"
BAD = {
    "a member of bytes": zipped(b"hello"),
    "an empty member": zipped(b""),
    "an npy under that name": npy(np.arange(3)),
    "empty": b"",
    "encrypted": patched(zipped(npy(np.arange(3))), flag=1),
    "method 99": patched(zipped(npy(np.arange(3))), method=99),
    "a header of 10^12 numbers": zipped(header(SHAPE % 10**12)),
    "a header beyond 64 bits": zipped(header(SHAPE % 10**30)),
    "a negative shape": zipped(header(SHAPE % -8)),
    "a header cut off": zipped(header(SHAPE % 3)[:60]),
    "a header that is no dictionary": zipped(header("[1, 2")),
    "a header of code": zipped(header("__import__('os').system('true')")),
    "objects": zipped(header("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }") + b"x" * 24),
    "records": zipped(npy(np.zeros(2, [("x", "i4")]))),
    "cut data": zipped(npy(np.arange(30))[:-8]),
    "too much data": zipped(npy(np.arange(30)) + b"12345678"),
    "version 9": zipped(b"\x93NUMPY\x09\x00" + b"x" * 100),
    "long texts": zipped(header("{'descr': '<U99999999', 'fortran_order': False, 'shape': (0,), }")),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_npz_of_arrays_is_one_line(tmp_path, name):
    path = tmp_path / "x.npz"
    path.write_bytes(BAD[name])
    with pytest.raises(UserError, match=r"x\.npz: not a readable npz without pickle \(.+\)"):
        read_arrays(path)


def test_a_name_that_stands_twice(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        (tmp_path / "x.npz").write_bytes(zipped(npy(np.arange(3)), times=2))
    with pytest.raises(UserError, match="occurs twice"):
        read_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_flipped_bit_is_an_array_or_one_line(tmp_path, save):
    """Those in the data, which the checksum covers, are always noticed."""
    path = tmp_path / "x.npz"
    save(path, a=np.arange(40))
    whole = path.read_bytes()
    unnoticed = 0
    for place in range(len(whole)):
        for bit in (1, 128):
            flipped = bytearray(whole)
            flipped[place] ^= bit
            path.write_bytes(flipped)
            try:
                found = read_arrays(path)
            except UserError:
                continue
            unnoticed += not any(np.array_equal(array, np.arange(40)) for array in found.values())
    assert unnoticed == 0


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as stream:
        stream.write(header(SHAPE % (8 << 20)))
        for _ in range(64):
            stream.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 17
    tracemalloc.start()
    start = time.monotonic()
    with pytest.raises(UserError, match="more than the 10 there should be"):
        read_arrays(path, most=10)
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("kind", ["none", "folder"])
def test_what_is_no_file(tmp_path, kind):
    path = tmp_path / "x.npz"
    if kind == "folder":
        path.mkdir()
    with pytest.raises(UserError, match=r"x\.npz: (no such file|is no file)"):
        read_arrays(path)
