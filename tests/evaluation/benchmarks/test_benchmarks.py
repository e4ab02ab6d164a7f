import json

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation import compare
from sare_jax.evaluation.benchmarks import gqa, mme, multiple, qbench, scienceqa
from sare_jax.evaluation.benchmarks.benchmark import requests
from sare_jax.evaluation.benchmarks.choices import parse_choice, parse_first, parse_scienceqa
from sare_jax.evaluation.benchmarks.command import main
from tests.evaluation.benchmarks.small_benchmarks import (
    pairs,
    write_gqa,
    write_mme,
    write_qbench,
    write_scienceqa,
)

QUESTIONS = {
    "1": ("n1", "Is it red?", "yes", "verify"),
    "2": ("n1", "What is he doing?", "watching", "query"),
    "3": ("n2", "Who stands there?", "man", "query"),
    "4": ("n3", "Which is it?", "left", "query"),
}


def answered(asked, texts):
    return [{**request, "text": text} for request, text in zip(asked, texts, strict=True)]


@pytest.fixture
def gqa_requests(tmp_path):
    return requests(gqa.BENCHMARK, write_gqa(tmp_path, QUESTIONS))


def test_bm_04_only_what_is_needed_is_asked_for_and_missing_answers_are_wrong(tmp_path):
    folder = write_scienceqa(tmp_path, problems=False, splits=False)  # no images, no further files
    asked = requests(scienceqa.BENCHMARK, folder)
    result = scienceqa.BENCHMARK.score(asked, answered(asked[:1], ["C"]))
    assert (result["accuracy"], result["n"]) == (pytest.approx(100 / 3), 3)
    assert result["missing"]["which"] == ["20", "33"]
    assert result["warnings"] == ["2 of 3 questions have no answer and count as wrong"]


def test_bm_06_answers_are_joined_by_question(gqa_requests):
    texts = ["no", "watching", "man", "left"]
    result = gqa.BENCHMARK.score(gqa_requests, answered(gqa_requests, texts)[::-1])
    assert result["accuracy"] == 75
    assert result["by"]["kind"]["binary"]["accuracy"] == 0
    assert result["n_images"] == 3


@pytest.mark.parametrize(
    ("gold", "text", "official", "lineage", "robust"),
    [
        ("watching", "The answer is watching.", False, True, True),
        ("watching", "Watching.", True, True, True),
        ("man", "A woman.", False, True, False),
        ("red", "It is not red, it is blue.", False, True, False),
        ("yes", "Yes, it is.", False, True, True),
        ("no", "I do not know.", False, True, False),
        ("no", "There is none", False, True, False),
        ("no", "no", True, True, True),
        ("traffic light", "**Traffic light**", False, True, True),
        ("left", "", False, False, False),
    ],
)
def test_bm_07_exact_lineage_and_relaxed_rule(gold, text, official, lineage, robust):
    verdict = gqa.judge({"label": gold}, text)
    assert (verdict.official, verdict.lineage, verdict.robust) == (official, lineage, robust)


def test_bm_08_micro_and_macro_have_their_names(tmp_path, gqa_requests):
    result = gqa.BENCHMARK.score(gqa_requests, answered(gqa_requests, ["yes", "watching", "dog", "right"]))
    assert result["accuracy"] == pytest.approx(50)  # groups of 1 and 3: 1 of 1, 1 of 3
    assert result["macro_accuracy"] == pytest.approx(100 * (1 + 1 / 3) / 2)
    assert result["by"]["structural"]["query"] == {
        "n": 3,
        "accuracy": pytest.approx(100 / 3),
        "accuracy_robust": pytest.approx(100 / 3),
    }


def test_bm_09_the_prompt_stands_in_the_result_and_mixed_ones_are_refused(tmp_path):
    folder = write_qbench(tmp_path)
    asked = [requests(qbench.BENCHMARK, folder, prompt=name) for name in ("official", "lineage")]
    runs = [qbench.BENCHMARK.score(*[answered(a, ["B", "C", "D"])] * 2, draws=50) for a in asked]
    assert "Choose between one of the options" in runs[0]["prompt"]["template"]
    assert runs[0]["prompt"]["sha256"] != runs[1]["prompt"]["sha256"]
    with pytest.raises(UserError, match="qbench: the runs were measured differently: prompt is"):
        compare.compare(*runs, draws=50)
    with pytest.raises(UserError, match="answers to 2 different prompts"):
        qbench.BENCHMARK.score(asked[0], answered([asked[0][0], *asked[1][1:]], ["B", "C", "D"]))


def test_prompts_of_both_kinds(tmp_path):
    official, lineage = (
        requests(qbench.BENCHMARK, write_qbench(tmp_path), prompt=name)[1] for name in ("official", "lineage")
    )
    assert official["instruction"] == (
        "How bright is it?\nChoose between one of the options as follows:\nA. High\nB. Medium\nC. Low\n"
    )
    assert lineage["instruction"] == (
        "How bright is it?\nA. High\nB. Medium\nC. Low\n"
        "Answer with the option's letter from the given choices directly."
    )
    own = requests(qbench.BENCHMARK, tmp_path, prompt="{options}? {}")[1]
    assert own["instruction"] == "A. High\nB. Medium\nC. Low? How bright is it?"
    with pytest.raises(UserError, match="'efuf' is none of official, lineage"):
        requests(qbench.BENCHMARK, tmp_path, prompt="efuf")


def test_subsets_are_named(tmp_path):
    folder = write_gqa(tmp_path, QUESTIONS)
    assert requests(gqa.BENCHMARK, folder)[0]["subset"] == "all 4 questions"
    asked = requests(gqa.BENCHMARK, folder, first=3)
    assert [request["id"] for request in asked] == ["1", "2", "3"]
    result = gqa.BENCHMARK.score(*[answered(asked, ["yes", "watching", "man"])] * 2)
    assert (result["subset"], result["n"]) == ("the first 3 of all 4 questions", 3)
    whole = requests(gqa.BENCHMARK, folder)
    other = gqa.BENCHMARK.score(*[answered(whole, ["yes", "watching", "man", "left"])] * 2)
    with pytest.raises(UserError, match="measured differently"):
        compare.compare(result, other, draws=50)


@pytest.mark.parametrize("form", ["lines", "brackets"])
@pytest.mark.parametrize("problems", [True, False])
def test_scienceqa_in_llavas_form(tmp_path, form, problems):
    folder = write_scienceqa(tmp_path, problems=problems, form=form)
    questions = scienceqa.read(folder)
    assert [(q["id"], q["label"], len(q["choices"])) for q in questions] == [
        ("4", "C", 3),
        ("11", "B", 2),
        ("20", "C", 4),
    ]
    assert questions[0]["choices"] == ["Virginia", "West Virginia", "Maine"]
    assert "<image>" not in questions[0]["question"]
    asked = requests(scienceqa.BENCHMARK, folder)
    assert [request["id"] for request in asked] == ["4", "20"]
    assert asked[0]["subset"] == "the 2 of 3 questions that have an image"
    result = scienceqa.BENCHMARK.score(
        questions, [{"question_id": i, "text": t} for i, t in (("4", "C"), ("11", "B."))]
    )
    assert result["by"]["context"]["image"]["accuracy"] == 50  # LLaVA's IMG-Accuracy
    assert result["accuracy"] == pytest.approx(100 / 3)  # "B." is no letter alone, nor followed by a blank
    assert result["accuracy_robust"] == pytest.approx(200 / 3)
    if problems:
        assert result["by"]["context"]["text"]["n"] == 1
        assert result["macro_accuracy"] == pytest.approx(50)  # social 1 of 1, natural 0 of 2
        assert result["by"]["grade"]["1-6"]["accuracy"] == 100


def test_qbench_of_the_released_form(tmp_path):
    questions = qbench.read(write_qbench(tmp_path))
    assert [(q["id"], q["label"]) for q in questions] == [
        ("00118.jpg", "B"),
        ("00118.jpg#2", "C"),
        ("9.png", "D"),
    ]
    assert [q["groups"]["type"] for q in questions] == ["yes-or-no", "how", "what"]
    result = qbench.BENCHMARK.score(
        questions, [{"response": t} for t in ("B. No", "It is low.", "Motion blur")]
    )
    assert result["accuracy"] == pytest.approx(100 / 3)
    assert result["accuracy_robust"] == 100
    assert result["unread"] == {"official": 2, "robust": 0}


@pytest.mark.parametrize(
    ("text", "robust", "llava", "first"),
    [
        ("A", "A", "A", "A"),
        ("b", "B", None, None),
        ("(B)", "B", None, None),
        ("B. Virginia", "B", "B", "B"),
        ("**C**", "C", None, None),
        ("The answer is C.", "C", "C", None),
        ("Answer: (c)", "C", None, "A"),
        ("The answer is a mistake", None, None, None),
        ("A man is there", None, None, "A"),
        ("Virginia.", "B", None, None),
        ("It is West Virginia.", "A", None, None),
        ("West Virginia or Maine", None, None, None),
        ("Option (A) or option (B)", None, None, None),
        ("The answer is A. The answer is B.", None, None, None),
        ("E", None, "E", None),
        ("", None, None, None),
    ],
)
def test_letters(text, robust, llava, first):
    choices = ["West Virginia", "Virginia", "Maine"]
    assert (parse_choice(text, choices), parse_scienceqa(text), parse_first(text)) == (robust, llava, first)


def test_compare_pairs_over_images_and_sums_over_tasks(tmp_path):
    asked = requests(mme.BENCHMARK, write_mme(tmp_path, {"count": pairs(*"abcdefgh"), "OCR": pairs(*"ij")}))
    labels = [request["label"] for request in asked]
    good = mme.BENCHMARK.score(*[answered(asked, labels)] * 2, draws=100)
    worse = mme.BENCHMARK.score(*[answered(asked, ["yes"] * 8 + labels[8:])] * 2, draws=100)
    result = compare.compare(good, worse, draws=200)
    change = result["metrics"]["mme.perception"]
    assert (change["before"], change["after"]) == (400, worse["perception"])
    assert change["difference"] == pytest.approx(worse["perception"] - 400)
    assert change["interval"][1] <= 0
    assert result["warnings"] == []


@pytest.mark.parametrize(
    ("module", "write"),
    [
        (gqa, lambda folder: write_gqa(folder, QUESTIONS)),
        (scienceqa, write_scienceqa),
        (qbench, write_qbench),
    ],
)
def test_command_lines(module, write, tmp_path, capsys):
    data, out = write(tmp_path / "data"), tmp_path / "requests.jsonl"
    main(module.BENCHMARK, ["requests", "--data", str(data), "--out", str(out), "--prompt", "lineage"])
    asked = [json.loads(line) for line in out.open()]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"id": r["id"], "prediction": r["label"]}) + "\n" for r in asked))
    capsys.readouterr()
    numbers = []
    for source in (["--questions", str(out)], ["--data", str(data)]):
        main(module.BENCHMARK, ["score", "--answers", str(answers), *source, "--json"])
        result = json.loads(capsys.readouterr().out)
        numbers.append([result[name] for name in multiple.SHOWN])
        assert (result["accuracy"], result["n"], result["skipped"]) == (100, len(asked), 0)
        assert set(result["intervals"]) == set(multiple.SHOWN)
    assert numbers[0] == numbers[1]
    main(module.BENCHMARK, ["score", "--answers", str(answers), "--questions", str(out)])
    shown = capsys.readouterr().out
    assert "macro_accuracy" in shown
    assert "rule: " in shown
    assert "subset: " in shown


@pytest.mark.parametrize(
    ("module", "content", "names"),
    [
        (gqa, "[]", r"expected \{question id"),
        (gqa, '{"1": {"question": "x"}}', "entry '1'.*imageId"),
        (scienceqa, "[]", "expected a list"),
        (scienceqa, '[{"id": "1", "conversations": []}]', "entry 0"),
        (scienceqa, '[{"id": 1, "conversations": [{"value": "x"}, {"value": "A"}]}]', "entry 0.*choices"),
        (qbench, "{}", "expected a list"),
        (qbench, '[{"img_path": "a", "candidates": ["x"], "correct_ans": "y"}]', "entry 0"),
    ],
)
def test_files_in_another_form_are_named(module, content, names, tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}.*{module.FILE}"):
        module.read(tmp_path)
    (tmp_path / module.FILE).write_text(content)
    with pytest.raises(UserError, match=f"{module.FILE}: .*{names}"):
        module.read(tmp_path)


def test_bad_answers_are_counted_and_named(gqa_requests):
    rows = answered(gqa_requests, ["yes", "watching", "man", "left"])
    rows[1]["text"], rows[2]["text"] = None, float("nan")
    result = gqa.BENCHMARK.score(gqa_requests, [*rows, rows[0]])
    assert result["dropped"]["answer is no text"]["which"] == ["2", "3"]
    assert result["dropped"]["repeated"]["which"] == ["1"]
    assert (result["accuracy"], result["skipped"], result["missing"]["count"]) == (50, 3, 2)
    json.dumps(result, allow_nan=False)
    with pytest.raises(UserError, match=r"more than one answer to question\(s\) 1"):
        gqa.BENCHMARK.score(gqa_requests, [*rows, {**rows[0], "text": "no"}])
    with pytest.raises(UserError, match="not in the list: 99"):
        gqa.BENCHMARK.score(gqa_requests, [{"id": "99", "text": "x"}])
    with pytest.raises(UserError, match="nothing left to score: 4 questions"):
        gqa.BENCHMARK.score(gqa_requests, [{"id": "1", "text": None}])
    with pytest.raises(UserError, match="answer to 1: its question is 'Is it red"):
        gqa.BENCHMARK.score([{**gqa_requests[0], "question": "Other?"}], rows[:1])
    with pytest.raises(UserError, match=r"question\(s\) 1 stand in the list twice"):
        gqa.BENCHMARK.score([gqa_requests[0]] * 2, rows[:1])
