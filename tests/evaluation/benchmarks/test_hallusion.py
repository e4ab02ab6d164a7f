import json

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation import compare
from sare_jax.evaluation.benchmarks import hallusion
from sare_jax.evaluation.benchmarks.benchmark import requests
from sare_jax.evaluation.benchmarks.command import main
from tests.evaluation.benchmarks.small_judges import write_hallusion

TEXTS = ("Yes, it is.", "No.", "Yes", "Yes", "I cannot tell.", "Yes", "It is hard to say.")
RIGHT = ("Yes", "No", "No", "Yes", "Yes", "Yes", "No")


def answered(asked, texts):
    return [{**request, "text": text} for request, text in zip(asked, texts, strict=True)]


@pytest.fixture
def questions(tmp_path):
    return hallusion.read(write_hallusion(tmp_path))


def test_numbers_counted_by_hand(questions):
    result = hallusion.BENCHMARK.score(questions, answered(questions, TEXTS), draws=20)
    # VD: right, right | wrong, right. VS: uncertain is right without image; right; uncertain is wrong.
    assert result["a_acc"] == pytest.approx(100 * 5 / 7)
    assert result["f_acc"] == pytest.approx(100 * 2 / 4)  # VD 0 and VS 1; VS without image is no figure
    assert result["inconsistent"] == pytest.approx(100 * 1 / 4)
    assert result["all_wrong"] == pytest.approx(100 * 1 / 4)
    assert result["q_acc"] == pytest.approx(100 * 1 / 3)  # VD question 1 alone
    assert result["easy_acc"] == pytest.approx(100 * 3 / 3)  # original images and none
    assert result["hard_acc"] == pytest.approx(100 * 1 / 3)
    # Read as yes: VD 0, wrong VD 2, VD 3, VS 4, VS 5 and, being wrong with a label of no, VS 6.
    assert result["yes_bias"] == pytest.approx((6 - 4) / 7)
    assert result["wrong_yes_share"] == 1
    assert (result["n"], result["n_figures"], result["n_pairs"]) == (7, 4, 3)
    assert result["by"]["category"] == {
        "VD": {"n": 4, "accuracy": 75},
        "VS": {"n": 3, "accuracy": pytest.approx(200 / 3)},
    }
    assert result["warnings"] == [
        "HallusionBench: 2 of 7 answers could not be read as yes or no and count as uncertain"
    ]
    assert result["per_image"]["image_id"] == ["VD/illusion/0", "VS/chart/0"]
    assert "released script: GPT-4 judges" in result["rule"]
    json.dumps(result, allow_nan=False)


def test_only_questions_with_an_image_are_asked_and_it_is_said(tmp_path):
    asked = requests(hallusion.BENCHMARK, write_hallusion(tmp_path))
    assert len(asked) == 6
    assert asked[0]["image"] == "VD/illusion/0_0.png"
    result = hallusion.BENCHMARK.score(*[answered(asked, [*RIGHT[:4], *RIGHT[5:]])] * 2, draws=2)
    assert (result["a_acc"], result["q_acc"], result["subset"]) == (
        100,
        100,
        "the 6 of 7 questions that have an image",
    )
    assert any("questions without an image were not asked" in text for text in result["warnings"])
    with pytest.raises(UserError, match="hallusion: its figures and question pairs"):
        requests(hallusion.BENCHMARK, tmp_path, first=3)


def test_unanswered_is_wrong_also_where_uncertain_is_right(questions):
    rows = answered(questions, RIGHT)
    result = hallusion.BENCHMARK.score(questions, rows[:4] + rows[5:], draws=2)
    assert result["a_acc"] == pytest.approx(100 * 6 / 7)


def test_the_released_layout_goes_out_and_comes_back(tmp_path, questions, capsys):
    answers, out = tmp_path / "answers.jsonl", tmp_path / "HallusionBench_result.json"
    answers.write_text("".join(json.dumps(row) + "\n" for row in answered(questions, TEXTS)))
    main(hallusion.BENCHMARK, ["layout", "--answers", str(answers), "--out", str(out)])
    written = json.loads(out.read_text())
    assert [record["model_prediction"] for record in written] == list(TEXTS)
    released = json.loads((tmp_path / "HallusionBench.json").read_text())
    assert [{k: v for k, v in record.items() if k != "model_prediction"} for record in written] == released
    capsys.readouterr()
    data = ["--data", str(tmp_path), "--json", "--draws", "2"]
    main(hallusion.BENCHMARK, ["score", "--answers", str(out), *data])
    result = json.loads(capsys.readouterr().out)
    assert result["a_acc"] == pytest.approx(100 * 5 / 7)
    assert result["subset"] == "all 7 questions"


def test_runs_are_compared_over_sets(questions):
    runs = [hallusion.BENCHMARK.score(questions, answered(questions, t), draws=5) for t in (TEXTS, RIGHT)]
    change = compare.compare(*runs, draws=20)["metrics"]["hallusion.q_acc"]
    assert (change["before"], change["after"], change["n"]) == (pytest.approx(100 / 3), 100, 2)


@pytest.mark.parametrize(
    "entry", [{"gt_answer": "2"}, {"category": "XX"}, {"filename": 1}, {"question": None}]
)
def test_files_in_another_form_are_named(tmp_path, entry):
    path = write_hallusion(tmp_path) / "HallusionBench.json"
    entries = json.loads(path.read_text())
    entries[3] |= entry
    path.write_text(json.dumps(entries))
    with pytest.raises(UserError, match="entry 3 is not a question in HallusionBench's format"):
        hallusion.read(tmp_path)


def test_images_lie_beside_the_questions(tmp_path):
    write_hallusion(tmp_path)
    assert hallusion.images(tmp_path) == tmp_path
    (tmp_path / "hallusion_bench").mkdir()
    assert hallusion.images(tmp_path / "HallusionBench.json") == tmp_path / "hallusion_bench"
