import json

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation import compare
from sare_jax.evaluation.benchmarks import repope
from sare_jax.evaluation.benchmarks.benchmark import requests
from sare_jax.evaluation.benchmarks.command import main
from tests.evaluation.benchmarks.small_judges import write_repope

TEXTS = ("Yes", "No", "Yes", "It is hard to tell.", "Yes.", "A dog stands there.")


def answered(asked, texts):
    return [{**request, "text": text} for request, text in zip(asked, texts, strict=True)]


@pytest.fixture
def asked(tmp_path):
    return requests(repope.BENCHMARK, write_repope(tmp_path / "RePOPE"))


def test_numbers_counted_by_hand(asked):
    result = repope.BENCHMARK.score(*[answered(asked, TEXTS)] * 2, draws=20)
    # random: yes is yes: tp; no, relabelled yes: fn; unclear: out; neither yes nor no: does not count.
    # popular: yes, relabelled no: fp; neither: does not count.
    random, popular = (200 * 1 / (2 + 1), 0)
    assert result["f1"] == pytest.approx((random + popular) / 2)
    assert result["accuracy"] == pytest.approx((50 + 0) / 2)
    assert result["precision"] == pytest.approx((100 + 0) / 2)
    assert result["recall"] == pytest.approx((50 + 0) / 2)
    assert result["yes_ratio"] == pytest.approx((50 + 100) / 2)
    # A person reads "hard to tell" as unknown, which is wrong, and from a dog nothing on a person: wrong too.
    assert result["f1_robust"] == pytest.approx((200 * 1 / (2 + 1 + 1) + 0) / 2)
    # POPE's labels: tp, tn, tp, out; tp, out.
    assert (result["f1_pope"], result["accuracy_pope"]) == (100, 100)
    assert (result["n"], result["unclear"], result["relabelled"]) == (6, 1, 2)
    assert {kind: line["n"] for kind, line in result["by"]["list"].items()} == {"random": 3, "popular": 2}
    assert result["unread"] == {"official": 2, "robust": 2}
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [("YES it is", "yes"), ("I know", "no"), ("not there", "no"), ("A dog", "unknown"), ("no, yes", "yes")],
)
def test_the_reading_of_its_script(text, said):
    assert repope.parse_official(text) == said


def test_unanswered_questions_are_wrong_by_every_rule(asked):
    result = repope.BENCHMARK.score(
        asked, answered(asked, ["Yes", "Yes", "Yes", "No", "No", "No"])[1:], draws=2
    )
    assert result["accuracy"] == pytest.approx((100 * 2 / 3 + 100) / 2)
    assert result["accuracy_pope"] == pytest.approx((50 + 50) / 2)


def test_without_popes_own_lists_only_what_has_a_label_is_asked(tmp_path):
    asked = requests(repope.BENCHMARK, write_repope(tmp_path, originals=False))
    assert [question["id"] for question in asked] == [
        "random/1",
        "random/2",
        "random/4",
        "popular/1",
        "popular/2",
    ]
    answers = answered(asked, ["Yes", "Yes", "No", "No", "No"])
    result = repope.BENCHMARK.score(asked, [*answers, {"id": "random/3", "text": "Yes"}], draws=2)
    assert (result["accuracy"], result["accuracy_pope"], result["relabelled"]) == (100, None, None)
    assert result["dropped"]["left out by RePOPE"] == {"count": 1, "which": ["random/3"]}
    with pytest.raises(UserError, match="not in the list: other"):
        repope.BENCHMARK.score(asked, [*answers, {"id": "other", "text": "Yes"}])


@pytest.mark.parametrize("numbered", [True, False])
def test_answers_to_popes_lists_are_scored(tmp_path, numbered, capsys):
    write_repope(tmp_path / "RePOPE")
    folder = tmp_path / "answers"
    folder.mkdir()
    for kind, texts in (("random", TEXTS[:4]), ("popular", TEXTS[4:])):
        rows = [
            {**({"question_id": i} if numbered else {}), "text": "Is it?", "label": "no", "answer": text}
            for i, text in enumerate(texts, start=1)
        ]
        (folder / f"coco_pope_{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["score", "--answers", str(folder), "--data", str(tmp_path / "RePOPE"), "--draws", "2"]
    main(repope.BENCHMARK, [*options, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["f1"], result["f1_pope"]) == (pytest.approx(100 / 3), 100)
    (folder / "random_2.jsonl").write_text("{}")
    with pytest.raises(UserError, match="are both of the list random"):
        main(repope.BENCHMARK, options)


def test_layout_of_its_script(asked, tmp_path):
    written = json.loads(repope.layout([(q, t) for q, t in zip(asked, TEXTS, strict=True)]))
    assert list(written["random"]) == ["1", "2", "4"]
    assert written["random"]["4"]["answer"] is None
    assert written["popular"]["1"] == {
        "question_id": "1",
        "text": "Is there a dog in the image?",
        "label": "no",
        "dataset": "popular",
        "response": "Yes.",
        "answer": "yes",
    }


def test_compare_pairs_images_over_the_lists(asked):
    labels = [{"unclear": "Yes"}.get(q["label"], q["label"]) for q in asked]
    runs = [repope.BENCHMARK.score(*[answered(asked, texts)] * 2, draws=5) for texts in (TEXTS, labels)]
    change = compare.compare(*runs, draws=20)["metrics"]["repope.f1"]
    assert (change["before"], change["n"]) == (pytest.approx(runs[0]["f1"]), 2)


def test_files_that_do_not_belong_together_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no coco_repope_random\.json"):
        repope.read(tmp_path)
    path = write_repope(tmp_path) / "annotations" / "coco_repope_random.json"
    text = path.read_text()
    path.write_text(text.replace("a dog", "a cow"))
    with pytest.raises(UserError, match="question_id 1 is another question than in coco_pope_random"):
        repope.read(tmp_path)
    path.write_text(text.replace('"question_id": 2', '"question_id": 9'))
    with pytest.raises(UserError, match="question_id 9 is not in coco_pope_random"):
        repope.read(tmp_path)
