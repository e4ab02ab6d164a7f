import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation import compare
from sare_jax.evaluation.evaluate import measure
from sare_jax.evaluation.metrics import METRICS, chair, pope
from sare_jax.evaluation.metrics.metric import Chosen, chosen
from sare_jax.records.coco import read_truth

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def truth(coco80):
    return read_truth(coco80)


def metrics(lm="") -> tuple[Chosen, ...]:
    """All metrics of the package."""
    return chosen(METRICS, {"perplexity": {"lm": str(lm)}})


def row(truth, lm, *, invent=0, right_of_ten=10, limit=64, empty=False):
    """A row of real references as captions, `invent` of them with a zebra more, and of some wrong answers."""
    captions = []
    for place, image_id in enumerate(truth.image_ids):
        text = truth.references[image_id][0] + (" A zebra stands by." if place < invent else "")
        captions.append({"image_id": image_id, "caption": "" if empty else text})
    captions = [{**c, "finish_reason": "stop", "tokens": len(c["caption"])} for c in captions]
    answers = {}
    for kind in pope.KINDS:
        questions = pope.build(truth, kind, num_images=30, questions_per_image=4)
        answers[kind] = [
            {**request, "text": "Yes" if (request["label"] == "yes") == (place % 10 < right_of_ten) else "No"}
            for place, request in enumerate(pope.requests(questions))
        ]
    return measure(
        captions,
        truth,
        metrics(lm),
        answers={"pope": answers},
        settings={"max_new_tokens": limit},
        draws=200,
    )


@pytest.fixture(scope="module")
def rows(truth, lm_folder):
    return row(truth, lm_folder), row(truth, lm_folder, invent=20, right_of_ten=7, limit=512)


def test_a_row_holds_everything_with_intervals(rows):
    result = json.loads(json.dumps(rows[1], allow_nan=False))
    blocks = {
        "chair": (result["chair"], ("chair_s", "chair_i", "recall", "mean_words", "empty_rate")),
        "random": (result["pope"]["random"], ("accuracy", "precision", "recall", "f1", "yes_ratio")),
        "pope": (result["pope"], ("mean_f1", "pooled_f1")),
        "word": (result["bleu"]["word"], ("bleu_1", "bleu_2", "bleu_4")),
        "char": (result["bleu"]["efuf_char"], ("bleu_1", "bleu_2", "bleu_4")),
        "perplexity": (result["perplexity"], ("mean", "corpus", "mean_paper_scale")),
        "lengths": (result["lengths"], ("mean_words", "mean_characters", "mean_tokens", "cut_off_rate")),
    }
    for name, (block, keys) in blocks.items():
        assert block["rule"], name
        assert block["n"] > 0, name
        for key in keys:
            low, high = block["intervals"][key]
            assert low <= high, (name, key)
            assert low - 1e-9 <= block[key] <= high + 1e-9 or name == "char", (name, key)
    assert result["informativeness"] == result["human"] == "not measured"
    assert result["settings"]["max_new_tokens"] == 512


def test_a_row_is_made_of_the_metrics_themselves(rows, truth):
    before, after = rows
    assert before["chair"]["chair_s"] == 0
    assert after["chair"]["chair_s"] == pytest.approx(100 * 19 / 80, abs=1.3)  # a zebra stands in one or two
    assert before["pope"]["mean_f1"] == 100
    f1 = [after["pope"][kind]["f1"] for kind in pope.KINDS]
    assert after["pope"]["mean_f1"] == pytest.approx(sum(f1) / 3)
    assert before["bleu"]["word"]["bleu_1"] == 100


def test_what_was_not_given_is_not_measured(truth, shared_data):
    captions = [{"image_id": i, "caption": "a dog"} for i in truth.image_ids]
    result = measure(captions, truth, metrics(), draws=50)
    assert result["pope"] == "not measured: no answers given"
    assert result["perplexity"].startswith("not measured")
    plain = read_truth(shared_data / "coco_gt_categories.json")
    some = [{"image_id": i, "caption": "a dog"} for i in plain.image_ids[:5]]
    assert measure(some, plain, metrics(), draws=50)["bleu"] == "not measured: no reference captions"


def test_ch_13_a_collapsed_model_still_gets_its_row(truth, lm_folder):
    result = row(truth, lm_folder, empty=True)
    assert result["chair"]["chair_s"] == 0
    assert result["chair"]["empty_rate"] == 1
    assert result["chair"]["recall"] == 0
    assert result["lengths"]["mean_words"] == 0
    assert result["bleu"]["word"]["bleu_1"] == 0
    assert result["perplexity"] == "not measured: every caption is empty"
    json.dumps(result, allow_nan=False)


def test_compare_gives_paired_differences(rows):
    before, after = rows
    result = compare.compare(before, after, draws=500)
    change = result["metrics"]["chair.chair_s"]
    assert change["difference"] == pytest.approx(after["chair"]["chair_s"] - before["chair"]["chair_s"])
    assert 0 < change["interval"][0] < change["difference"] < change["interval"][1]
    assert change["p"] < 0.05
    assert result["metrics"]["pope.mean_f1"]["after"] == pytest.approx(after["pope"]["mean_f1"])
    assert result["metrics"]["pope.mean_f1"]["interval"][1] < 0
    for name, entry in result["metrics"].items():
        assert entry["difference"] == pytest.approx(entry["after"] - entry["before"]), name
    assert "bleu.word.mean_length" in result["metrics"]
    assert not [name for name in result["metrics"] if "reference" in name]  # no model moves those
    same = compare.compare(before, copy.deepcopy(before), draws=100)
    assert same["warnings"] == []
    assert all(entry["interval"] == [0, 0] for entry in same["metrics"].values())


def test_ch_16_other_limits_are_warned_of_or_refused(rows, tmp_path, capsys):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, document in zip(paths, rows, strict=True):
        path.write_text(json.dumps(document))
    compare.main([*map(str, paths), "--draws", "50"])
    shown = capsys.readouterr().out
    assert "WARNING: max_new_tokens differs: 64 and 512" in shown
    assert "chair.chair_s" in shown
    with pytest.raises(UserError, match="max_new_tokens differs"):
        compare.main([*map(str, paths), "--draws", "50", "--strict"])


@pytest.mark.parametrize(
    ("place", "value", "names"),
    [
        (("chair", "vocabulary"), {"source": "own.txt"}, "chair: .*vocabulary"),
        (("perplexity", "model"), {"name": "gpt2"}, "perplexity: .*model"),
        (("bleu", "word", "tokenizer"), "coco", r"bleu\.word: .*tokenizer"),
        (("pope", "random", "questions"), {"n": 3}, r"pope\.random: .*questions"),
    ],
)
def test_other_rules_are_refused(rows, place, value, names):
    other = copy.deepcopy(rows[1])
    block = other
    for key in place[:-1]:
        block = block[key]
    block[place[-1]] = value
    with pytest.raises(UserError, match=names):
        compare.compare(rows[0], other, draws=50)


def test_rows_without_the_counts_are_named(rows, tmp_path):
    other = copy.deepcopy(rows[1])
    del other["chair"]["per_image"]["mentions"]
    with pytest.raises(UserError, match="chair: no counts mentions by image"):
        compare.compare(rows[0], other, draws=50)
    path = tmp_path / "a.json"
    path.write_text("[1]")
    with pytest.raises(UserError, match=r"a\.json: no result of a metric"):
        compare.main([str(path), str(path)])


def test_images_of_one_run_only_are_left_out_and_counted(truth):
    captions = [{"image_id": i, "caption": "a dog"} for i in truth.image_ids]
    first, second = chair.score(captions[:60], truth), chair.score(captions[20:], truth)
    result = compare.compare(first, second, draws=50)
    assert result["metrics"]["chair.recall"]["n"] == 40
    assert result["metrics"]["chair.recall"]["difference"] == 0
    assert "40 image(s)" in result["warnings"][0]
    with pytest.raises(UserError, match="no image in common"):
        compare.compare(chair.score(captions[:9], truth), chair.score(captions[9:], truth), draws=50)
    with pytest.raises(UserError, match="no metric in common"):
        compare.compare(first, {"n": 3}, draws=50)


@pytest.mark.parametrize(
    ("module", "arguments", "names"),
    [
        ("chair", ["--captions", "no.jsonl", "--truth", "no.json"], "no.json: no such file"),
        ("chair", ["--captions", "no.jsonl", "--truth", "."], "instances_*.json"),
        ("compare", ["a.json", "b.json"], "a.json: no such file"),
    ],
)
def test_ch_15_mistakes_end_in_one_line_and_exit_2(module, arguments, names):
    command = [sys.executable, "-m", "sare_jax.evaluation", module, *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert names in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""
