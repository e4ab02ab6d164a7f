import json
import random
import time
from dataclasses import replace

import numpy as np
import pytest

from sare_jax.curation.efuf_files import POS_NEG, SENTENCES, read_efuf, write_efuf
from sare_jax.curation.select import Thresholds
from sare_jax.errors import UserError
from sare_jax.records.curated import read_curated, write_curated
from tests.records.test_curated import CAPTIONS, equal, example

NINE, B = "COCO_train2014_000000000009.jpg", "b.png"
CAPTION = "A dog runs, near a cat and a kite. It is red."
PIECES = [
    {"image": NINE, "sentence": "A dog runs", "position": 0, "score": 33.5},
    {"image": NINE, "sentence": "A dog runs, near a cat and a kite", "position": 11, "score": 22.5},
    {"image": NINE, "sentence": "A dog runs, near a cat and a kite", "position": 11, "score": 32.5},
    {"image": NINE, "sentence": "A dog runs, near a cat and a kite", "position": 11, "score": 32.0},
    {"image": B, "sentence": "Two cows", "position": 0, "score": 22.0},
    {"image": B, "sentence": "Two cows, a café 🐶", "position": 9, "score": 10.25},
]
WHOLE = [
    {"image": NINE, "sentence": CAPTION, "mean": 30.0, "min": 22.5},
    {"image": "c.png", "sentence": "A hen.", "mean": 28.0, "min": 24.0},
    {"image": "c.png", "sentence": "A hen. A cock.", "mean": 27.5, "min": 27.5},
]


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "efuf", PIECES, WHOLE)


def write(folder, pieces, sentences):
    folder.mkdir(exist_ok=True)
    (folder / POS_NEG).write_text(json.dumps(pieces))
    (folder / SENTENCES).write_text(json.dumps(sentences))
    return folder


def units(curated, table):
    return [
        (str(curated.rows.caption[r])[:s], str(curated.rows.caption[r])[s:e], float(score))
        for r, s, e, score in zip(table.row, table.start, table.end, table.score, strict=True)
    ]


def test_rows_become_slices_of_whole_captions(folder, tmp_path):
    curated = read_efuf(folder)
    write_curated(tmp_path / "curated", curated)  # which checks every span
    assert [str(c) for c in curated.rows.caption] == [CAPTION, "A hen.", "Two cows, a café 🐶"]
    assert curated.rows.image_id.tolist() == [9, -1, -2]
    assert units(curated, curated.neg) == [
        ("A dog runs,", " near a cat and a kite", 22.5),
        ("", "Two cows", 22.0),
        ("Two cows,", " a café 🐶", 10.25),
    ]
    assert units(curated, curated.pos) == [
        ("", "A dog runs", 33.5),
        ("A dog runs,", " near a cat and a kite", 32.5),
    ]
    assert [str(curated.rows.caption[r]) for r in curated.sent.row] == ["A hen."]
    assert curated.neg.object.tolist()[0] == "near a cat and a kite"
    assert curated.manifest["dropped"]["objects"] == {"between_t1_and_t0": 1}  # 32.0 is on the limit
    assert curated.manifest["dropped"]["sentences"] == {"not_reliable": 2}


def test_the_papers_sentence_rule_asks_for_the_mean_alone(folder):
    sent = read_efuf(folder, rule="paper").sent
    assert sent.score.tolist() == [30.0, 28.0]


def test_other_thresholds_and_images_that_are_not_for_training(folder):
    curated = read_efuf(folder, thresholds=Thresholds(33, 11, 29))
    assert (len(curated.neg), len(curated.pos)) == (1, 1)
    curated = read_efuf(folder, training={B, "c.png"})
    assert curated.manifest["dropped"]["records"] == {
        f"{POS_NEG}: image not for training": 4,
        f"{SENTENCES}: image not for training": 1,
    }
    assert 9 not in curated.rows.image_id


def test_our_sets_train_efuf_and_come_back(tmp_path):
    ours = example()
    ours = replace(ours, pos=replace(ours.pos, score=np.array([33.25, 40.1], np.float32)))
    write_curated(tmp_path / "ours", ours)
    assert write_efuf(tmp_path / "ours", tmp_path / "efuf") == {POS_NEG: 3, SENTENCES: 1}
    rows = json.loads((tmp_path / "efuf" / POS_NEG).read_text())
    for row in rows:
        assert list(row) == ["image", "sentence", "position", "score"]
        assert any(caption.startswith(row["sentence"]) for caption in CAPTIONS)
    assert [(r["sentence"][: r["position"]], r["sentence"][r["position"] :]) for r in rows] == [
        ("", "A cat sits on a mat"),
        ("A cat sits on a mat,", " near a dog"),
        ("", "Zwei Äpfel 🍎 und ein Café"),
    ]
    back = read_efuf(tmp_path / "efuf", thresholds=Thresholds(25, 25, 0), rule="paper")
    assert sorted(units(back, back.neg)) == sorted(units(ours, ours.neg))
    assert sorted(units(back, back.pos)) == sorted(units(ours, ours.pos))
    assert back.sent.score.tolist() == ours.sent.score.tolist()


def test_the_way_there_and_back_changes_nothing_more(folder, tmp_path):
    first = read_efuf(folder)
    write_curated(tmp_path / "first", first)
    write_efuf(tmp_path / "first", tmp_path / "out")
    kept = [row for row in PIECES if row["score"] < 23 or row["score"] > 32]

    def key(row):
        return row["image"], row["position"], row["sentence"], row["score"]

    written = json.loads((tmp_path / "out" / POS_NEG).read_text())
    assert sorted(written, key=key) == sorted(kept, key=key)
    assert json.loads((tmp_path / "out" / SENTENCES).read_text()) == [WHOLE[1]]
    second = read_efuf(tmp_path / "out")
    for table in ("neg", "pos"):
        assert sorted(units(second, getattr(second, table))) == sorted(units(first, getattr(first, table)))
    write_curated(tmp_path / "second", second)
    write_efuf(tmp_path / "second", tmp_path / "again")
    third = read_efuf(tmp_path / "again")
    third.manifest["source"] = second.manifest["source"]
    equal(third, second)


def rows_by_definition(pieces, sentences):
    """Captions, then the beginnings that no text so far starts with, longest first."""
    texts = list(dict.fromkeys((r["image"], r["sentence"]) for r in sentences))

    def row(image, text):
        if (image, text) in texts:
            return texts.index((image, text))
        return next((i for i, t in enumerate(texts) if t[0] == image and t[1].startswith(text)), None)

    for piece in sorted(pieces, key=lambda piece: -len(piece["sentence"])):
        if row(piece["image"], piece["sentence"]) is None:
            texts.append((piece["image"], piece["sentence"]))
    return [texts[row(piece["image"], piece["sentence"])] for piece in pieces]


def test_each_row_finds_its_caption_by_the_definition(tmp_path):
    rng = random.Random(0)
    for _ in range(60):
        pieces, sentences = (
            [
                {"image": rng.choice("ab"), "sentence": "".join(rng.choices("xy", k=length))} | scores
                for length in rng.choices(range(1, 6), k=rng.randint(1, most))
            ]
            for most, scores in ((30, {"position": 0, "score": 1.0}), (8, {"mean": 99.0, "min": 99.0}))
        )
        curated = read_efuf(write(tmp_path / "efuf", pieces, sentences))
        rows = [(str(curated.rows.image[row]), str(curated.rows.caption[row])) for row in curated.neg.row]
        assert rows == rows_by_definition(pieces, sentences)


def test_many_rows_of_one_image_are_no_square_of_work(tmp_path):
    captions = [f"A picture with number {i} in it, and a dog" for i in range(15_000)]
    pieces = [
        {"image": B, "sentence": text.removesuffix(", and a dog"), "position": 0, "score": 1.0}
        for text in captions
    ]
    sentences = [{"image": B, "sentence": text, "mean": 1.0, "min": 1.0} for text in captions]
    folder = write(tmp_path / "efuf", pieces, sentences)
    started = time.process_time()
    curated = read_efuf(folder)
    assert time.process_time() - started < 5  # half a minute where each row looks through all captions
    assert curated.rows.caption.tolist() == captions


def test_odd_rows_are_counted_by_reason(tmp_path):
    good = PIECES[1]
    odd = [
        good | {"position": 33},
        good | {"position": 500},
        good | {"position": -1},
        good | {"position": "11"},
        good | {"position": True},
        {key: value for key, value in good.items() if key != "position"},
        {key: value for key, value in good.items() if key != "image"},
        good | {"sentence": None},
        good | {"score": None},
        good | {"score": float("nan")},
        {"image": NINE, "sentence": "A dog. ", "position": 6, "score": 1.0},
        "no row",
    ]
    sentences = [
        WHOLE[1],
        {"image": NINE, "sentence": " ", "mean": 1, "min": 1},
        {"image": NINE, "sentence": "x"},
    ]
    curated = read_efuf(write(tmp_path / "odd", [good, *odd], sentences))
    assert len(curated.neg) == 1
    assert curated.manifest["dropped"]["records"] == {
        f"{POS_NEG}: position beyond the sentence": 3,
        f"{POS_NEG}: position is no whole number": 4,
        f"{POS_NEG}: image or sentence is no text": 2,
        f"{POS_NEG}: score is no number": 2,
        f"{POS_NEG}: no row": 1,
        f"{SENTENCES}: image or sentence is no text": 1,
        f"{SENTENCES}: score is no number": 1,
    }


@pytest.mark.parametrize(
    ("pieces", "sentences", "message"),
    [
        ({"rows": []}, WHOLE, "pos_neg.json: expected a JSON list"),
        ([], WHOLE, r"pos_neg.json: no row can be used \(no record\)"),
        ([{"image": "a"}], WHOLE, r"no row can be used \(1 image or sentence is no text\)"),
        (PIECES, 7, "sentences.json: expected a JSON list"),
        (PIECES[:1], WHOLE, r"D_neg is empty: no usable row scores below t1 = 23 \(left out: no record\)"),
    ],
)
def test_files_of_which_nothing_can_be_used(tmp_path, pieces, sentences, message):
    with pytest.raises(UserError, match=message):
        read_efuf(write(tmp_path / "odd", pieces, sentences))


def test_missing_files_are_named(tmp_path, folder):
    with pytest.raises(UserError, match=r"pos_neg\.json: no such file"):
        read_efuf(tmp_path)
    (folder / SENTENCES).write_text("[{")
    with pytest.raises(UserError, match=r"sentences\.json: not valid JSON"):
        read_efuf(folder)


def test_what_was_curated_reads_back_as_curated(folder, tmp_path):
    write_curated(tmp_path / "curated", read_efuf(folder))
    equal(read_curated(tmp_path / "curated"), read_efuf(folder))
    assert np.all(read_curated(tmp_path / "curated").neg.score < 23)
