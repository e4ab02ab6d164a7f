import json
import time
import tracemalloc

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.metrics import chair
from sare_jax.language.words import read_table
from sare_jax.records.coco import read_truth
from sare_jax.records.texts import read_records
from tests.evaluation.small_worlds import truth_of, write_coco


def test_ch_09_every_mention_or_every_word(tmp_path):
    truth = truth_of(tmp_path, {1: ["cat"]})
    result = chair.score([{"image_id": 1, "caption": "A dog. Another dog. A cat."}], truth)
    assert result["chair_i"] == pytest.approx(100 * 2 / 3)
    assert result["chair_i_words"] == pytest.approx(50)
    assert result["chair_s"] == 100
    assert "every mention" in result["rule"]
    assert "each word once" in result["rule"]


def test_ch_10_truth_is_instances_and_references(tmp_path):
    caption = [{"image_id": 7, "caption": "a person throws a frisbee"}]
    both = read_truth(write_coco(tmp_path / "both", {7: ["person"]}, {7: ["a man with a frisbee"]}))
    assert chair.score(caption, both)["chair_i"] == 0
    folder = write_coco(tmp_path / "half", {7: ["person"]}, None)
    with pytest.warns(UserWarning, match="PARTIAL GROUND TRUTH"):
        half = read_truth(folder)
    result = chair.score(caption, half)
    assert result["chair_i"] == 50
    assert "captions_val2014.json is missing" in result["truth"]["partial"][0]


def test_ch_10_the_split_that_holds_the_image_is_found(tmp_path):
    write_coco(tmp_path, {1: ["dog"]}, {1: ["a dog"]}, "train2014")
    write_coco(tmp_path, {2: ["cat"]}, {2: ["a cat"]}, "val2014")
    captions = [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "a cat"}]
    assert chair.score(captions, read_truth(tmp_path))["recall"] == 100


@pytest.mark.parametrize("spelling", [42, "42", 42.0, "000000000042", "COCO_val2014_000000000042.jpg"])
def test_ch_11_spellings_of_an_image(tmp_path, spelling):
    truth = read_truth(write_coco(tmp_path, {42: ["cat"], 2: ["dog"]}, {42: ["a cat"]}))
    result = chair.score([{"image_id": spelling, "caption": "A dog and a cat."}], truth)
    assert result["chair_i"] == 50
    assert result["per_image"]["image_id"] == [42]


def test_ch_11_unknown_images_are_an_error_that_lists_them(tmp_path):
    truth = truth_of(tmp_path, {1: ["cat"]})
    captions = [{"image_id": i, "caption": "A dog."} for i in (1, 999, "COCO_val2014_000000000998.jpg")]
    with pytest.raises(UserError, match=r"999.*998"):
        chair.score(captions, truth)


def test_ch_12_a_caption_without_objects_counts(tmp_path):
    result = chair.score([{"image_id": 1, "caption": "A sunny day."}], truth_of(tmp_path, {1: ["cat"]}))
    assert (result["chair_s"], result["chair_i"], result["n"], result["n_no_object"]) == (0, 0, 1, 1)
    json.dumps(result, allow_nan=False)


def test_ch_13_silence_is_shown_beside_the_score(tmp_path, capsys):
    path = tmp_path / "captions.jsonl"
    texts = ["", "  ", "A dog and a cat."]
    path.write_text("".join(json.dumps({"image_id": i, "caption": t}) + "\n" for i, t in enumerate(texts)))
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({i: ["cat"] for i in range(3)}))
    chair.main(["--captions", str(path), "--truth", str(truth), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["empty_rate"] == pytest.approx(2 / 3)
    assert result["chair_s"] == pytest.approx(100 / 3)
    assert result["mean_words"] == pytest.approx(5 / 3)
    chair.main(["--captions", str(path), "--truth", str(truth)])
    assert "empty_rate          0.667" in capsys.readouterr().out


def test_ch_14_synonyms_fold(tmp_path):
    result = chair.score(
        [{"image_id": 1, "caption": "A man and people"}], truth_of(tmp_path, {1: ["person"]})
    )
    assert result["chair_i"] == 0
    assert result["recall"] == 100


def test_counts_by_hand(tmp_path):
    truth = truth_of(tmp_path, {1: ["cat", "dining table"], 2: ["person", "dog"]})
    captions = [
        {"image_id": 1, "caption": "A cat on a table. Two cats, a cup and a cup."},
        {"image_id": 2, "caption": "A woman walks her puppy."},
    ]
    result = chair.score(captions, truth)
    assert result["chair_s"] == 50
    assert result["chair_i"] == pytest.approx(100 * 2 / 7)  # cat table cats cup cup woman puppy
    assert result["chair_i_words"] == pytest.approx(100 * 1 / 5)  # cat table cup woman puppy
    assert result["recall"] == 100
    assert result["hallucinated_categories"] == {"cup": 2}
    assert result["per_image"]["mentions_hallucinated"] == [2, 0]


def test_order_and_repetition_do_not_change_a_score(tmp_path):
    truth = truth_of(tmp_path, {i: ["cat"] for i in range(20)})
    captions = [{"image_id": i, "caption": "A dog. " * (i % 3) + "A cat."} for i in range(20)]
    plain, mixed = chair.score(captions, truth), chair.score(captions[::-1] + captions[:5], truth)
    assert [plain[name] for name in chair.METRICS] == [mixed[name] for name in chair.METRICS]
    assert mixed["dropped"]["repeated"]["count"] == 5
    assert plain == chair.score(captions, truth)


def test_explain_marks_words_in_the_caption(tmp_path):
    caption = "A dog near two wine glasses."
    judged = chair.explain(caption, frozenset({"dog"}))
    assert [(caption[j.start : j.end], j.category, j.hallucinated) for j in judged] == [
        ("dog", "dog", False),
        ("wine glasses", "wine glass", True),
    ]
    lines = list(chair.explanation(3, caption, judged, truth_of(tmp_path, {3: ["dog"]})))
    assert "HALLUCINATED" in lines[2]
    assert "'wine glasses' → wine glass" in lines[2]


def test_the_listing_says_why_each_word_counts(tmp_path):
    truth = read_truth(write_coco(tmp_path, {1: ["dog"], 2: ["cat"]}, {1: ["a dog on a sofa"], 2: ["a cat"]}))
    captions = [
        {"image_id": 1, "caption": "A dog on a couch, the dogs near a cup."},
        {"image_id": 2, "caption": "A sunny day."},
    ]
    lines: list[str] = []
    chair.score(captions, truth, each=lambda *caption: lines.extend(chair.explanation(*caption, truth)))
    assert lines == [
        "1  in the image: couch, dog",
        "    'dog' → dog (dog): in the image, annotated",
        "    'couch' → couch (couch): in the image, named by a reference caption",
        "    'dogs' → dog (dog): in the image, annotated; the same word again: counts for chair_i alone",
        "    'cup' → cup (cup): HALLUCINATED: not in the image",
        "2  in the image: cat",
        "    names no object: counts as a caption only",
    ]


def test_a_stream_of_captions_is_not_kept(tmp_path):
    truth = truth_of(tmp_path, {i: ["dog"] for i in range(200)})
    chair.score([{"image_id": 0, "caption": "a dog"}], truth)  # reads the word lists
    stream = ({"image_id": i, "caption": f"{'x' * 100_000} a dog"} for i in range(200))
    tracemalloc.start()
    try:
        result = chair.score(stream, truth, draws=10)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert (result["n"], result["chair_i"], result["recall"]) == (200, 0, 100)


def test_own_word_list(tmp_path, capsys):
    own = tmp_path / "words.txt"
    own.write_text("lamp: lantern\n")
    path = tmp_path / "truth.json"
    path.write_text('{"1": ["lamp"]}')
    captions = tmp_path / "captions.txt"
    captions.write_text("1 ### A lantern and a dog\n")
    files = ["--captions", str(captions), "--truth", str(path), "--synonyms", str(own)]
    chair.main([*files, "--json", "--explain"])
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert (result["chair_i"], result["per_image"]["mentions"]) == (0, [1])
    assert result["vocabulary"]["source"] == "words.txt"
    assert "'lantern' → lamp" in printed.err
    plain = chair.score([{"image_id": 1, "caption": "a lantern"}], read_truth(path, read_table(own)))
    assert result["vocabulary"] == plain["vocabulary"]


def test_real_captions_give_the_known_numbers(shared_data):
    truth = read_truth(shared_data / "coco_gt_categories.json")
    captions, dropped = read_records(shared_data / "captions" / "llava15_greedy.jsonl")
    started = time.process_time()
    result = chair.score(captions, truth, dropped=dropped)
    assert time.process_time() - started < 3
    assert (result["n"], result["skipped"]) == (500, 0)
    assert result["chair_s"] == pytest.approx(43.8, abs=2)
    assert result["chair_i"] == pytest.approx(12.5, abs=2)
    assert result["chair_i_words"] == pytest.approx(20.4, abs=2)
    ours = [45.0, 12.638, 20.997, 80.643, 87.096]
    assert [result[name] for name in list(chair.METRICS)[:5]] == pytest.approx(ours, abs=1e-3)
    low, high = result["intervals"]["chair_s"]
    assert low < 45.0 < high
    assert high - low == pytest.approx(2 * 1.96 * 100 * (0.45 * 0.55 / 500) ** 0.5, rel=0.15)
