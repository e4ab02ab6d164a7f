import json

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks import mme
from sare_jax.evaluation.benchmarks.benchmark import requests
from sare_jax.evaluation.benchmarks.command import main
from sare_jax.evaluation.metrics.pope_parse import parse_stated
from tests.evaluation.benchmarks.small_benchmarks import pairs, write_mme


def answered(asked, texts):
    return [{**request, "text": text} for request, text in zip(asked, texts, strict=True)]


def test_bm_01_a_task_is_accuracy_and_pairs(tmp_path):
    asked = requests(mme.BENCHMARK, write_mme(tmp_path, {"existence": pairs("a", "b")}))
    result = mme.BENCHMARK.score(*[answered(asked, ["Yes", "No", "Yes", "Yes"])] * 2)
    task = result["tasks"]["existence"]
    assert (task["accuracy"], task["accuracy_plus"], task["score"]) == (75, 50, 125)
    assert result["perception"] == 125


def test_bm_01_answers_that_cannot_be_read_are_warned_of_and_wrong(tmp_path):
    asked = requests(mme.BENCHMARK, write_mme(tmp_path, {"existence": pairs("a", "b")}))
    result = mme.BENCHMARK.score(*[answered(asked, ["A photo of a dog."] * 4)] * 2)
    assert (result["total"], result["total_robust"]) == (0, 0)
    assert result["unread"] == {"official": 4, "robust": 4}
    assert (
        "official rule: all 4 answers could not be read as yes or no and count as wrong" in result["warnings"]
    )


def test_bm_02_three_sums_under_three_names(tmp_path):
    tasks = {task: pairs("a", "b") for task in mme.TASKS}
    asked = requests(mme.BENCHMARK, write_mme(tmp_path, tasks, apart="artwork"))
    # All right but for one image's second answer in every cognition task: 75 + 50.
    right = [request["label"].capitalize() for request in asked]
    texts = [
        "Yes" if request["groups"]["task"] in mme.COGNITION and request["id"].endswith("b/2") else text
        for request, text in zip(asked, right, strict=True)
    ]
    result = mme.BENCHMARK.score(*[answered(asked, texts)] * 2)
    sums = [result[name] for name in ("perception", "cognition", "total", "total_percent")]
    assert sums == pytest.approx([2000, 4 * 125, 2500, 100 * 2500 / 2800])
    assert result["absent_tasks"] == []
    low, high = result["intervals"]["total"]
    assert low < 2500 <= high


def test_bm_02_published_sums_add_up():
    """The numbers of the case, from per-task scores: no scale but the three that have names."""
    import numpy as np

    groups = mme.TASKS
    sums = mme.metrics(groups)
    counts = np.zeros((len(groups), len(mme.COLUMNS)))
    counts[:, 0], counts[:, 1] = 60, 30  # questions, images
    counts[:10, 2], counts[:10, 3] = 43.09962, 15.0  # 71.8327 + 50 each: 1218.327
    counts[10:, 2], counts[10:, 3] = 37.6065, 0.0  # 62.6775 each: 250.71
    flat = counts.reshape(-1)
    assert sums["perception"](flat) == pytest.approx(1218.33, abs=0.01)
    assert sums["cognition"](flat) == pytest.approx(250.71, abs=0.01)
    assert sums["total"](flat) == pytest.approx(1469.04, abs=0.01)
    assert sums["total_percent"](flat) == pytest.approx(100 * 1469.04 / 2800, abs=0.01)


@pytest.mark.parametrize(
    ("text", "official", "robust"),
    [
        ("Yes", "yes", "yes"),
        (" yes", "yes", "yes"),
        ("  yes", "unknown", "yes"),
        ('"No"', "no", "no"),
        ("Now I see it: yes", "no", "yes"),
        ("Not really.", "no", "no"),
        ("That is correct.", "unknown", "yes"),
        ("The answer is yes.", "unknown", "yes"),
        ("Nobody is there.", "no", "unknown"),
        ("Yes or no.", "yes", "unknown"),
        ("No idea.", "no", "unknown"),
        ("", "unknown", "unknown"),
    ],
)
def test_bm_03_official_and_robust_parser(text, official, robust):
    assert (mme.parse_official(text), parse_stated(text)) == (official, robust)


def test_bm_04_a_missing_answer_is_wrong_and_named(tmp_path):
    asked = requests(mme.BENCHMARK, write_mme(tmp_path, {"count": pairs("a")}))
    result = mme.BENCHMARK.score(asked, answered(asked[:1], ["Yes"]))
    assert (result["tasks"]["count"]["accuracy"], result["tasks"]["count"]["accuracy_plus"]) == (50, 0)
    assert result["missing"] == {"count": 1, "which": ["count/a/2"]}
    assert "1 of 2 questions have no answer and count as wrong" in result["warnings"]


def test_bm_06_two_questions_of_one_image_are_two(tmp_path):
    asked = requests(mme.BENCHMARK, write_mme(tmp_path, {"count": pairs("a", "b")}))
    assert len({request["id"] for request in asked}) == 4
    mixed = answered(asked, ["Yes", "No", "No", "No"])[::-1]
    assert mme.BENCHMARK.score(asked, mixed)["tasks"]["count"]["accuracy"] == 75


def test_the_released_folder_in_both_layouts(tmp_path):
    root = tmp_path / "MME_Benchmark_release_version"
    write_mme(root, {"OCR": pairs("0001"), "artwork": pairs("x.y")}, apart="artwork")
    (root / "eval_tool").mkdir()
    asked = requests(mme.BENCHMARK, tmp_path)
    assert [request["image"] for request in asked] == ["artwork/images/x.y.png"] * 2 + ["OCR/0001.png"] * 2
    assert asked[2]["instruction"] == "Is 0001 here? Please answer yes or no."
    assert all((mme.images(tmp_path) / request["image"]).is_file() for request in asked)
    lineage = requests(mme.BENCHMARK, tmp_path, prompt="lineage", prefix="Look well. ")
    assert lineage[2]["instruction"] == (
        "Look well. Is 0001 here?\nAnswer the question using a single word or phrase."
    )


def test_the_public_scripts_answer_files_score_alone(tmp_path):
    lines = ["0001.png\tIs it?\tYes\tYes, it is.\n", "0001.png\tIs it not?\tNo\tno"]
    (tmp_path / "color.txt").write_text("".join(lines))
    records, dropped = mme.read_answers(str(tmp_path))
    assert mme.BENCHMARK.score(records, records)["tasks"]["color"]["score"] == 200
    assert dropped == {}
    (tmp_path / "color.txt").write_text("".join(lines) + "\n/data/2.png\tIs")
    records, dropped = mme.read_answers(str(tmp_path))
    assert (len(records), dropped) == (2, {"half-written last line": ["color.txt line 3"]})
    (tmp_path / "color.txt").write_text(lines[0])
    with pytest.raises(UserError, match=r"color\.txt: image\(s\) 0001 have not two answers"):
        mme.read_answers(str(tmp_path))
    (tmp_path / "color.txt").write_text("0001.png\tIs it?\tPerhaps\tYes\n")
    with pytest.raises(UserError, match=r"color\.txt:1: expected"):
        mme.read_answers(str(tmp_path))


def test_files_that_are_not_mme_are_named(tmp_path):
    with pytest.raises(UserError, match="no folder existence"):
        mme.read(tmp_path)
    folder = write_mme(tmp_path, {"count": {"a": [("Is it?", "Yes")]}})
    with pytest.raises(UserError, match=r"count/a\.txt: 1 questions; MME asks two"):
        mme.read(folder)
    (folder / "count" / "a.txt").write_text("Is it?\tYes\nIs it?\n")
    with pytest.raises(UserError, match=r"count/a\.txt:2: expected"):
        mme.read(folder)
    with pytest.raises(UserError, match="whole tasks"):
        requests(mme.BENCHMARK, write_mme(tmp_path / "b", {"count": pairs("a")}), first=1)


def test_command_line(tmp_path, capsys):
    data = write_mme(tmp_path / "mme", {"count": pairs("a", "b"), "text_translation": pairs("c")})
    out = tmp_path / "requests.jsonl"
    main(mme.BENCHMARK, ["requests", "--data", str(data), "--out", str(out)])
    assert "all 6 questions" in capsys.readouterr().out
    main(mme.BENCHMARK, ["requests", "--data", str(data)])
    assert capsys.readouterr().out == out.read_text()
    asked = [json.loads(line) for line in out.open()]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({**r, "text": r["label"]}) + "\n" for r in asked))
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps({"question_id": r["id"], "text": r["label"]}) + "\n" for r in asked))
    results = []
    for options in (
        ["--answers", str(answers)],
        ["--answers", str(bare), "--questions", str(out)],
        ["--answers", str(bare), "--data", str(data)],
    ):
        main(mme.BENCHMARK, ["score", *options, "--json"])
        results.append(json.loads(capsys.readouterr().out))
    assert [r["total"] for r in results] == [400, 400, 400]
    assert len({r["questions"]["fingerprint"] for r in results}) == 1
    assert [r["prompt"]["template"] for r in results] == ["{} Please answer yes or no."] * 2 + ["not stated"]
    main(mme.BENCHMARK, ["score", "--answers", str(answers)])
    shown = capsys.readouterr().out
    assert "perception          200.000" in shown
    assert "WARNING: tasks without questions, which count 0 in the sums: existence" in shown
    with pytest.raises(UserError, match="record 1 has no question and label"):
        main(mme.BENCHMARK, ["score", "--answers", str(bare)])
