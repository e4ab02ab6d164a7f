import hashlib

import pytest
from PIL import Image

from sare_jax.evaluation.metrics import chair
from sare_jax.report import ReportSpec
from sare_jax.report.gallery import choose, exhibits, image_uri, mark


def test_words_are_marked_where_they_stand():
    text = "Two dogs sit by a bench. A kite flies."
    found = mark({"text": text}, ("bench", "dog"))
    assert "".join(piece.text for piece in found.pieces) == text
    assert [(p.text, p.kind) for p in found.pieces if p.kind] == [
        ("dogs", "grounded"),
        ("bench", "grounded"),
        ("kite", "hallucinated"),
    ]
    assert (found.hallucinated, found.mentions, found.words, found.cut) == (1, 3, 9, False)
    assert found.pieces[-2].tip == "kite: not in the picture"


def test_words_that_changed_are_marked_and_objects_stay_whole():
    record = {"text": "A dog sits by a traffic light. Birds fly."}
    found = mark(record, ("dog",), "A cat sits by a red traffic car.")
    assert "".join(piece.text for piece in found.pieces) == record["text"] == found.text
    changed = [piece.text for piece in found.pieces if piece.changed]
    assert changed == ["dog", "traffic light", ". ", "Birds", " fly."]
    assert not any(piece.changed for piece in mark(record, ("dog",), record["text"]).pieces)
    assert not any(piece.changed for piece in mark(record, ("dog",)).pieces)


def test_without_truth_nothing_is_marked_or_counted():
    found = mark({"text": "A kite.", "finish_reason": "length"}, None)
    assert [piece.kind for piece in found.pieces] == [""]
    assert (found.hallucinated, found.mentions, found.cut) == (None, None, True)


def test_empty_caption():
    found = mark({"text": ""}, ("dog",))
    assert (found.pieces, found.words) == ((), 0)


def test_choice_follows_the_hash_among_hallucinating_base_captions():
    captions = {1: "A dog.", 2: "A cat.", 3: "A cat.", 4: "A cat."}
    present = {1: ("dog",), 2: ("dog",), 3: ("dog",), 4: ("dog",)}
    order = sorted((2, 3, 4), key=lambda i: hashlib.sha256(str(i).encode()).hexdigest())
    assert choose(captions, present, 2) == order[:2]
    assert choose(captions, {}, 10) == sorted(
        captions, key=lambda i: hashlib.sha256(str(i).encode()).hexdigest()
    )


def test_choice_cannot_see_the_unlearned_runs(inputs, truth, workdir):
    before = [e.image_id for e in exhibits(inputs, ReportSpec(), truth, workdir / "data/images")]
    for (run, _), records in inputs.answers.items():
        if run != "base":
            for record in records:
                record["text"] = "An elephant and a giraffe."
    after = [e.image_id for e in exhibits(inputs, ReportSpec(), truth, workdir / "data/images")]
    assert before == after
    assert len(before) == 8


def test_exhibits_hold_each_run_before_and_after(inputs, truth, workdir):
    exhibit = exhibits(inputs, ReportSpec(), truth, workdir / "data/images")[0]
    assert exhibit.source.startswith("data:image/webp;base64,")
    assert exhibit.present == tuple(sorted(truth.categories(exhibit.image_id)))
    assert set(exhibit.rows["base"]) == {"origin"}
    assert set(exhibit.rows["sare"]) == {"origin", "relearn_140"}
    text = "".join(piece.text for piece in exhibit.rows["base"]["origin"].pieces)
    judged = chair.explain(text, truth.categories(exhibit.image_id))
    assert exhibit.rows["base"]["origin"].hallucinated == sum(item.hallucinated for item in judged) > 0


def test_gallery_without_answers(inputs, truth):
    inputs.answers.clear()
    assert exhibits(inputs, ReportSpec(), truth, None) == []


@pytest.mark.parametrize("content", [None, b"no image at all"])
def test_unreadable_images_leave_a_gap(tmp_path, content):
    path = tmp_path / "image.png"
    if content:
        path.write_bytes(content)
    assert image_uri(tmp_path, path.name) == ""


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK"])
def test_image_modes_and_size(tmp_path, mode):
    import base64
    import io

    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new(mode, (1200, 600)).save(path)
    encoded = image_uri(tmp_path, path.name).partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (440, 220)
