"""Units as token rows, and the streams of batches."""

import dataclasses

import numpy as np
import pytest

from sare_jax.data.batches import (
    bucket_lengths,
    common_prefix,
    count_steps,
    finetune_batches,
    tokenize,
    unlearn_batches,
)
from sare_jax.errors import UserError
from sare_jax.records.curated import Rows, Sentences, Units
from tests import tiny_training as tiny

INSTRUCTION = "say it"


def sets(**sizes):
    return tokenize(tiny.curated(**sizes), tiny.Letters(), INSTRUCTION)


def text(tokens):
    return "".join(tiny.LETTERS[token] for token in tokens)


def stream(token_sets, steps, seed=0, batch_size=3):
    return list(unlearn_batches(token_sets, batch_size=batch_size, steps=steps, seed=seed))


def keys(batches, kind):
    """What identifies the units that came by: image and target."""
    return [
        (str(image), tuple(target))
        for batch in batches
        for image, target in zip(batch[kind]["image"], batch[kind]["targets"], strict=True)
    ]


def test_target_tokens_spell_the_target_and_context_stands_before():
    curated = tiny.curated()
    token_sets = sets()
    for kind in ("neg", "pos"):
        table = getattr(curated, kind)
        for index in range(len(table)):
            caption = str(curated.rows.caption[table.row[index]])
            row = getattr(token_sets, kind).row(index)
            target = row["tokens"][row["start"] : row["end"]]
            assert text(target) == caption[table.start[index] : table.end[index]]
            np.testing.assert_array_equal(row["targets"][: len(target)], target)
            prompt = 1 + tiny.PATCHES + len(INSTRUCTION)
            assert text(row["tokens"][prompt : row["start"]]) == caption[: table.start[index]]
            assert np.all(row["tokens"][row["end"] :] == tiny.PAD)
            assert tiny.EOS not in row["tokens"]


def test_tk_09_whole_captions_alone_end_with_one_end_symbol():
    token_sets = sets()
    for index in range(len(token_sets.sent)):
        row = token_sets.sent.row(index)
        assert row["tokens"][row["end"] - 1] == tiny.EOS
        assert np.sum(row["tokens"] == tiny.EOS) == 1
        assert text(row["tokens"][row["start"] : row["end"] - 1]) in tiny.SENTENCES


def test_each_set_has_its_lengths_and_its_window():
    token_sets = sets()
    for kind in ("neg", "pos", "sent"):
        units = getattr(token_sets, kind)
        assert units.length == units.lengths[-1] >= max(map(len, units.tokens)) > units.length - 8
        assert len(units.lengths) <= 4
        assert all(length % 8 == 0 for length in units.lengths)
    assert token_sets.neg.window < token_sets.sent.window <= token_sets.sent.length


def test_buckets_end_at_quantiles_and_go_up_together():
    assert bucket_lengths([10] * 120 + [20] * 70 + [30] * 9 + [90], 8) == (16, 24, 32, 96)
    assert bucket_lengths([], 8) == (8,)
    token_sets = sets(num_neg=40, num_pos=40)
    short, long = token_sets.neg.lengths[0], token_sets.neg.lengths[-1]
    assert short < long
    seen = {
        tuple(batch[kind]["tokens"].shape[1] for kind in ("neg", "pos", "sent"))
        for batch in unlearn_batches(token_sets, batch_size=1, steps=60, seed=0)
    }
    assert 1 < len(seen) <= 4
    for batch in unlearn_batches(token_sets, batch_size=1, steps=60, seed=0):
        for part in batch.values():
            assert part["end"].max() <= part["tokens"].shape[1]


def test_the_prefix_is_what_all_rows_have_before_the_image():
    token_sets = sets()
    assert common_prefix(token_sets, tiny.IMAGE) == (tiny.BOS,)
    other = dataclasses.replace(token_sets.neg, tokens=[np.array([7, tiny.IMAGE, 3])])
    assert common_prefix(dataclasses.replace(token_sets, neg=other), tiny.IMAGE) == ()
    longer = common_prefix(token_sets, image_token_id=-1)
    assert text(longer[1 + tiny.PATCHES :]) == INSTRUCTION, "without an image, until captions differ"


def test_weights_and_references_come_with_their_units():
    token_sets = sets(num_neg=4)
    weight = np.arange(4, dtype=np.float32)
    weighed = dataclasses.replace(token_sets.neg, by_unit={"weight": weight, "reference": -weight})
    (batch,) = finetune_batches(weighed, np.array([2, 0, 3]), batch_size=3)
    np.testing.assert_array_equal(batch["by_unit"]["weight"], [2, 0, 3])
    np.testing.assert_array_equal(batch["by_unit"]["reference"], [-2, 0, -3])
    curated = tiny.curated(num_neg=4)
    np.testing.assert_array_equal(token_sets.neg.caption, curated.neg.row[token_sets.neg.unit])


def test_pa_02_the_mask_of_a_row_is_ones_and_then_zeros():
    """Rows are padded on the right, always; `end` is the mask."""
    (batch,) = unlearn_batches(sets(), batch_size=9, steps=1, seed=0, row_multiple=4)
    for part in batch.values():
        mask = np.arange(part["tokens"].shape[1]) < part["end"][:, None]
        np.testing.assert_array_equal(mask, part["tokens"] != tiny.PAD)
        assert np.all(np.diff(mask.astype(int), axis=1) <= 0)
        assert mask[:, 0].all()


def test_tk_08_truncation_never_cuts_the_image():
    """600 tokens, 576 of them image places: text is cut; where none is left, that is an error."""

    class Large(tiny.Letters):
        def answer(self, image, instruction, text, spans, eos):
            tokens, found = super().answer(image, instruction, text, spans, eos)
            more = 576 - tiny.PATCHES
            return [tokens[0], *[tiny.IMAGE] * more, *tokens[1:]], [(a + more, b + more) for a, b in found]

    caption = " ".join(["a cat on a mat"] * 7)[: 100 - len(INSTRUCTION)]
    rows = Rows(np.array(["0.png"]), np.zeros(1, np.int64), np.array([caption]))
    unit = Units(*(np.array([value]) for value in (0, 6, 11, "mat", 8, 11, 1.0)))
    curated = dataclasses.replace(
        tiny.curated(num_pos=0, num_sent=0), rows=rows, neg=unit, sent=Sentences([0], [1.0], [1.0])
    )
    cut = tokenize(curated, Large(), INSTRUCTION, max_length=600)
    for tokens in (*cut.neg.tokens, *cut.sent.tokens):
        assert np.sum(tokens == tiny.IMAGE) == 576
    assert len(cut.sent.tokens[0]) == 600 < len(tokenize(curated, Large(), INSTRUCTION).sent.tokens[0])
    assert cut.sent.start[0] < 600
    with pytest.raises(
        UserError, match=r"1 of 1 units of D_neg have no target tokens \(1 × beyond max_length"
    ):
        tokenize(curated, Large(), INSTRUCTION, max_length=577)


def test_too_long_rows_lose_text_at_their_end_only():
    prompt = 1 + tiny.PATCHES + len(INSTRUCTION)
    curated = tiny.curated()
    cut = tokenize(curated, tiny.Letters(), INSTRUCTION, max_length=prompt + 40)
    assert max(len(tokens) for tokens in cut.sent.tokens) == prompt + 40
    assert all(np.sum(tokens == tiny.IMAGE) == tiny.PATCHES for tokens in cut.sent.tokens)
    with pytest.raises(UserError, match=r"units of D_neg have no target tokens.*beyond max_length"):
        tokenize(curated, tiny.Letters(), INSTRUCTION, max_length=prompt + 3)


def test_tk_01_few_lost_units_are_counted_and_many_are_an_error():
    class Lossy(tiny.Letters):
        calls = 0

        def answer(self, image, instruction, text, spans, eos):
            tokens, found = super().answer(image, instruction, text, spans, eos)
            if not Lossy.calls:
                found[0] = (found[0][0], found[0][0])
            Lossy.calls += 1
            return tokens, found

    token_sets = tokenize(tiny.curated(num_neg=200), Lossy(), INSTRUCTION)
    assert len(token_sets.neg) == 199
    assert token_sets.lost == {"neg": {"no target token": 1}, "pos": {}, "sent": {}}
    Lossy.calls = 0
    with pytest.raises(UserError, match=r"1 of 99 units of D_neg have no target tokens"):
        tokenize(tiny.curated(num_neg=99), Lossy(), INSTRUCTION)


def test_nothing_to_unlearn_is_said_plainly():
    with pytest.raises(UserError, match=r"D_neg is empty.*curate\.t1"):
        sets(num_neg=0)


def test_negatives_define_the_epoch_and_the_others_cycle():
    token_sets = sets(num_neg=9, num_pos=4, num_sent=2)
    batches = stream(token_sets, steps=6)
    seen = keys(batches, "neg")
    one_pass = sorted(keys(stream(token_sets, steps=3, seed=5), "neg"))
    assert sorted(seen[:9]) == sorted(seen[9:]) == one_pass
    assert seen[:9] != seen[9:], "each pass is shuffled anew (case CK-01)"
    cycled = keys(batches, "pos")
    assert sorted(cycled[:4]) == sorted(cycled[4:8]) == sorted(cycled[8:12])
    assert len(set(keys(batches, "sent"))) == 2


def test_batches_of_one_unit_are_possible():
    """EFUF's own batch size; Grain cannot count the batches of one of an endless stream."""
    batches = stream(sets(), steps=12, batch_size=1)
    assert len(batches) == 12
    assert len(set(keys(batches[:10], "neg"))) == len(set(keys(stream(sets(), 1, batch_size=10), "neg")))


def test_streams_are_independent_and_follow_the_seed():
    same = dataclasses.replace(sets(num_neg=30), pos=sets(num_neg=30).neg)
    first, again, other = (stream(same, 10, seed) for seed in (1, 1, 2))
    assert keys(first, "neg") == keys(again, "neg")
    assert keys(first, "neg") != keys(other, "neg")
    assert keys(first, "neg") != keys(first, "pos")


def test_pa_06_an_empty_set_is_left_out():
    (batch,) = stream(sets(num_pos=0), steps=1)
    assert set(batch) == {"neg", "sent"}
    assert batch["neg"]["valid"].sum() == batch["sent"]["valid"].sum() == 3


def test_rows_are_filled_up_to_divide_over_devices():
    (batch,) = unlearn_batches(sets(), batch_size=3, steps=1, seed=0, row_multiple=8)
    for part in batch.values():
        assert part["tokens"].shape[0] == 8
        np.testing.assert_array_equal(part["valid"], [1] * 3 + [0] * 5)
        assert set(part["image"]) <= {"0.png", "1.png", "2.png", "3.png"}


def test_dtypes_are_the_compiled_steps():
    (batch,) = stream(sets(), steps=1)
    dtypes = {key: value.dtype for key, value in batch["neg"].items() if key != "image"}
    ints = dict.fromkeys(("tokens", "targets", "start", "end"), np.dtype(np.int32))
    assert dtypes == ints | {"valid": np.dtype(np.float32)}


@pytest.mark.parametrize("stop", [0, 1, 4, 7])
def test_the_place_in_the_stream_can_be_restored(stop):
    batches = unlearn_batches(sets(), batch_size=4, steps=8, seed=3)
    whole = [batch["neg"]["targets"] for batch in batches]
    iterator = iter(batches)
    for _ in range(stop):
        next(iterator)
    other = iter(batches)
    other.set_state(iterator.get_state())
    rest = [batch["neg"]["targets"] for batch in other]
    assert len(rest) == 8 - stop
    for got, expected in zip(rest, whole[stop:], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_one_pass_in_a_given_order_fills_up_its_last_batch():
    token_sets = sets()
    order = np.array([3, 1, 4, 0, 5, 9])
    batches = list(finetune_batches(token_sets.neg, order, batch_size=4))
    assert [batch["valid"].tolist() for batch in batches] == [[1, 1, 1, 1], [1, 1, 0, 0]]
    got = np.concatenate([batch["targets"][batch["valid"] > 0] for batch in batches])
    np.testing.assert_array_equal(got, [token_sets.neg.row(index)["targets"] for index in order])


def test_steps_are_given_or_follow_from_epochs():
    assert count_steps(100, 8, epochs=1.0, steps=0) == 13
    assert count_steps(100, 8, epochs=0.5, steps=0) == 7
    assert count_steps(100, 8, epochs=1.0, steps=20) == 20


def test_a_set_prints_shortly():
    """Grain prints what it maps when it is asked for a batch, whatever is in it."""
    assert len(repr(tokenize(tiny.curated(num_neg=200), tiny.Letters(), "say it").neg.row)) < 300
