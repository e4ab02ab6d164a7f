"""Curated sets survive the disk, and refuse what does not fit together."""

import dataclasses

import numpy as np
import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.records.curated import Curated, Rows, Sentences, Units, read_curated, write_curated

CAPTIONS = ["A cat sits on a mat, near a dog.", "Zwei Äpfel 🍎 und ein Café."]


def units(*spans, captions=CAPTIONS):
    """Units from (row, text of cur(o), object)."""
    rows = [row for row, _, _ in spans]
    starts = [captions[row].index(text) for row, text, _ in spans]
    mentions = [captions[row].index(name) for row, _, name in spans]
    return Units(
        row=np.array(rows, np.int32),
        start=np.array(starts, np.int32),
        end=np.array([s + len(text) for s, (_, text, _) in zip(starts, spans, strict=True)], np.int32),
        object=np.array([name for *_, name in spans], np.str_),
        mention_start=np.array(mentions, np.int32),
        mention_end=np.array(
            [m + len(name) for m, (*_, name) in zip(mentions, spans, strict=True)], np.int32
        ),
        score=np.linspace(20, 30, len(spans), dtype=np.float32),
    )


def example():
    return Curated(
        rows=Rows(np.array(["a.png", "b ü.png"]), np.array([1, 2**40]), np.array(CAPTIONS)),
        neg=units((0, " near a dog", "dog")),
        pos=units((0, "A cat sits on a mat", "cat"), (1, "Zwei Äpfel 🍎 und ein Café", "Äpfel")),
        sent=Sentences(np.array([1], np.int32), np.array([29.5], np.float32), np.array([28.0], np.float32)),
        manifest={"rule": "paper", "t0": 32.0},
    )


def equal(a, b):
    for name in ("rows", "neg", "pos", "sent"):
        for field in dataclasses.fields(getattr(a, name)):
            x, y = getattr(getattr(a, name), field.name), getattr(getattr(b, name), field.name)
            np.testing.assert_array_equal(x, y)
            assert x.dtype.kind == y.dtype.kind
    assert a.manifest == b.manifest


def test_round_trip_keeps_text_and_spans(tmp_path):
    write_curated(tmp_path / "curated", example())
    back = read_curated(tmp_path / "curated")
    equal(back, example())
    text = str(back.rows.caption[1])
    assert text[back.pos.start[1] : back.pos.end[1]] == "Zwei Äpfel 🍎 und ein Café"
    assert text[back.pos.mention_start[1] : back.pos.mention_end[1]] == "Äpfel"
    assert (len(back.rows), len(back.neg), len(back.pos), len(back.sent)) == (2, 1, 2, 1)


def test_empty_sets_are_allowed(tmp_path):
    empty = Units(*([[]] * len(dataclasses.fields(Units))))
    curated = dataclasses.replace(example(), neg=empty, sent=Sentences([], [], []))
    write_curated(tmp_path / "curated", curated)
    back = read_curated(tmp_path / "curated")
    assert len(back.neg) == len(back.sent) == 0
    assert back.neg.object.dtype.kind == "U"
    assert back.neg.start.dtype == np.int32


def test_files_hold_no_pickle(tmp_path):
    write_curated(tmp_path / "curated", example())
    for path in (tmp_path / "curated").glob("*.npz"):
        with np.load(path, allow_pickle=False) as archive:
            assert all(archive[name].dtype.kind != "O" for name in archive.files)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": np.array([7], np.int32)}, "outside of the 2 captions"),
        ({"end": np.array([400], np.int32)}, "not in its caption"),
        ({"start": np.array([-1], np.int32)}, "not in its caption"),
        ({"mention_end": np.array([0], np.int32)}, "not in its caption"),
        ({"score": np.zeros(2, np.float32)}, "differ in length"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_old_set_stays(tmp_path, change, message):
    write_curated(tmp_path / "curated", example())
    broken = dataclasses.replace(example(), neg=dataclasses.replace(example().neg, **change))
    with pytest.raises(UserError, match=message):
        write_curated(tmp_path / "curated", broken)
    equal(read_curated(tmp_path / "curated"), example())


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"rows\.npz: no such file; run the curate stage"):
        read_curated(tmp_path / "nowhere")
    write_curated(tmp_path / "curated", example())
    (tmp_path / "curated" / "pos.npz").write_bytes(b"PK not a zip")
    with pytest.raises(UserError, match=r"pos\.npz: not a readable npz"):
        read_curated(tmp_path / "curated")
    np.savez(tmp_path / "curated" / "pos.npz", row=np.arange(2))
    with pytest.raises(UserError, match=r"pos\.npz: lacks start, end"):
        read_curated(tmp_path / "curated")
    np.savez(tmp_path / "curated" / "pos.npz", row=np.array([{}], object))
    with pytest.raises(UserError, match=r"pos\.npz"):
        read_curated(tmp_path / "curated")


def test_bad_manifest_is_named(tmp_path):
    write_curated(tmp_path / "curated", example())
    files.write_text(tmp_path / "curated" / "manifest.json", "{")
    with pytest.raises(UserError, match=r"manifest\.json: not valid JSON"):
        read_curated(tmp_path / "curated")


def test_unreadable_pickle_is_refused(tmp_path):
    write_curated(tmp_path / "curated", example())
    path = tmp_path / "curated" / "rows.npz"
    np.savez(path, image=np.array([{}], object), image_id=np.array([1]), caption=np.array(["x"]))
    with pytest.raises(UserError, match=r"rows\.npz: not a readable npz without pickle"):
        read_curated(tmp_path / "curated")


@pytest.mark.parametrize("name", ["rows", "neg", "sent"])
def test_more_entries_than_the_manifest_says_are_not_read(tmp_path, name):
    folder = tmp_path / "curated"
    counts = {"neg": 1, "pos": 2, "sent": 1}
    counts |= {"neg": 0, "pos": 0, "sent": 0} if name == "rows" else {name: 0}
    write_curated(folder, dataclasses.replace(example(), manifest={"counts": counts}))
    with pytest.raises(UserError, match=rf"{name}\.npz: .*more than the \d there should be.*curate stage"):
        read_curated(folder)
