"""One row a caption, and batches of such rows."""

import dataclasses

import numpy as np
import pytest

from sare_jax.data.batches import SETS, tokenize
from sare_jax.data.packing import pack, packed_batches
from tests import tiny_training as tiny


def token_sets(**sizes):
    return tokenize(tiny.curated(**sizes), tiny.Letters(), "say it")


def stream(rows, steps, batch_size=2, seed=0, **options):
    return packed_batches(rows, batch_size=batch_size, steps=steps, seed=seed, pad_id=tiny.PAD, **options)


def copies(rows, count):
    """More captions, told apart by their images."""
    return [dataclasses.replace(rows[n % len(rows)], image=f"{n}.png") for n in range(count)]


def test_a_row_holds_all_units_of_its_caption_and_ends_with_the_last():
    sets = token_sets()
    rows = pack(sets)
    curated = tiny.curated()
    assert [row.image for row in rows] == ["0.png", "1.png", "2.png", "3.png"]
    for kind in SETS:
        members = getattr(sets, kind)
        packed = [(row.image, tuple(row.tokens[start:end])) for row in rows for start, end in row.spans[kind]]
        alone = [
            (str(image), tuple(tokens[start:]))
            for image, tokens, start in zip(members.image, members.tokens, members.start, strict=True)
        ]
        assert sorted(packed) == sorted(alone)
    for number, row in enumerate(rows):
        ended = number in curated.sent.row
        assert (row.tokens[-1] == tiny.EOS) == ended
        assert len(row.tokens) == row.upto(SETS)
        assert np.sum(row.tokens == tiny.IMAGE) == tiny.PATCHES


def test_tk_09_a_packed_sentence_ends_with_one_end_symbol():
    """Sub-sentences never do."""
    for row in pack(token_sets()):
        for kind in SETS:
            for start, end in row.spans[kind]:
                assert np.sum(row.tokens[start:end] == tiny.EOS) == (kind == "sent")


def test_units_are_runs_of_the_listed_targets():
    rows = pack(token_sets())
    (batch,) = stream(rows, 1, batch_size=4)
    seen = []
    for name in ("neg", "rest", "second"):
        for index in range(len(batch[name]["tokens"]) if name in batch else 0):
            part = batch[name]
            for kind, columns in part["units"].items():
                for start, end in zip(columns["start"][index], columns["end"][index], strict=True):
                    run = part["targets"][index, start:end]
                    places = part["positions"][index, start:end]
                    np.testing.assert_array_equal(part["tokens"][index, places + 1], run)
                    if len(run):
                        seen.append((name == "second", kind, tuple(run)))
    wanted = [
        (second, kind, tuple(row.tokens[start:end]))
        for second in (False, True)
        for row in rows
        for kind in (("neg",) if second else SETS)
        for start, end in row.spans[kind]
    ]
    assert sorted(seen) == sorted(wanted)


def test_targets_are_listed_once_and_nothing_else_is():
    rows = pack(token_sets(num_sent=0))
    (batch,) = stream(rows, 1, batch_size=4)
    for index, image in enumerate(batch["neg"]["image"]):
        (row,) = [row for row in rows if row.image == image]
        inside = {place for kind in SETS for start, end in row.spans[kind] for place in range(start, end)}
        places = batch["neg"]["positions"][index]
        assert len(inside) < len(row.tokens)
        assert sorted(places[: len(inside)] + 1) == sorted(inside)


def test_the_second_run_holds_negatives_alone_and_ends_behind_the_last():
    rows = pack(token_sets())
    (batch,) = stream(rows, 1, batch_size=4)
    second = batch["second"]
    assert set(second) == {"tokens", "targets", "positions", "units"}
    assert set(second["units"]) == {"neg"}
    assert second["tokens"].shape[1] <= batch["neg"]["tokens"].shape[1]
    assert second["targets"].shape[1] <= batch["neg"]["targets"].shape[1]
    for index, image in enumerate(batch["neg"]["image"]):
        (row,) = [row for row in rows if row.image == image]
        tokens = second["tokens"][index]
        np.testing.assert_array_equal(tokens[: row.upto(["neg"])], row.tokens[: row.upto(["neg"])])
        assert np.all(tokens[row.upto(["neg"]) :] == tiny.PAD)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 11])
def test_an_epoch_takes_each_caption_once_and_every_batch_its_share(batch_size):
    some = pack(token_sets(num_neg=2, num_pos=9))
    rows = copies(some, 11)
    negative = sum(len(row.spans["neg"]) > 0 for row in rows)
    assert 0 < negative < 11
    steps = -(-11 // batch_size)
    batches = list(stream(rows, 2 * steps, batch_size))
    for first in (0, steps):
        epoch = batches[first : first + steps]
        taken = [image for batch in epoch for image in real(batch)]
        assert sorted(taken) == sorted(row.image for row in rows)
        counts = [len(real(batch, ["neg"])) for batch in epoch]
        assert max(counts) - min(counts) <= 1
    if batch_size == 3:
        assert [real(b) for b in batches[:steps]] != [real(b) for b in batches[steps:]]
    shapes = {tuple(part["image"].shape for part in b.values() if "image" in part) for b in batches}
    assert len(shapes) == 1


def real(batch, names=("neg", "rest")):
    """Images of rows that have units."""
    return [
        str(image)
        for name in names
        if name in batch
        for image, some in zip(
            batch[name]["image"],
            sum((c["end"] > c["start"]).sum(1) for c in batch[name]["units"].values()),
            strict=True,
        )
        if some
    ]


def test_groups_are_filled_up_with_rows_without_units():
    rows = copies(pack(token_sets(num_neg=2)), 5)
    for batch in stream(rows, 4, row_multiple=8):
        for name in batch:
            assert len(batch[name]["tokens"]) == 8
        assert len(real(batch)) in (1, 2)


def test_weights_and_references_go_with_their_units():
    sets = token_sets()
    number = np.arange(len(sets.neg), dtype=np.float32)
    sets = dataclasses.replace(
        sets, neg=dataclasses.replace(sets.neg, by_unit={"weight": number, "reference": -number})
    )
    rows = pack(sets)
    (batch,) = stream(rows, 1, batch_size=4)
    for name in ("neg", "second"):
        columns = batch[name]["units"]["neg"]
        some = columns["end"] > columns["start"]
        np.testing.assert_array_equal(np.sort(columns["by_unit"]["weight"][some]), number)
        np.testing.assert_array_equal(columns["by_unit"]["reference"], -columns["by_unit"]["weight"])
    assert set(batch["neg"]["units"]["pos"]) == {"start", "end"}


@pytest.mark.parametrize("stop", [0, 2, 5])
def test_the_place_in_the_stream_can_be_restored(stop):
    batches = stream(copies(pack(token_sets()), 7), 6, seed=3)
    whole = [real(batch) for batch in batches]
    iterator = iter(batches)
    for _ in range(stop):
        next(iterator)
    other = iter(batches)
    other.set_state(iterator.get_state())
    assert [real(batch) for batch in other] == whole[stop:]
    assert [real(batch) for batch in stream(copies(pack(token_sets()), 7), 6, seed=4)] != whole
