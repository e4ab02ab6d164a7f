import json

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks import objhal
from sare_jax.evaluation.benchmarks.benchmark import requests
from sare_jax.evaluation.benchmarks.command import main
from sare_jax.evaluation.benchmarks.objhal_objects import categories_of, read_objects
from sare_jax.llm.replies import UnreadableError
from tests.evaluation.benchmarks.small_judges import ASKED, write_objhal
from tests.evaluation.judging.judge_server import JudgeServer, says

TEXTS = ("A dog and two puppies run past a bicycle.", "There is only sky to see.", "A chair.")
OBJECTS = (["dog", "two puppies", "bicycle"], ["sky"], ["chair"])


def answered(asked, objects=OBJECTS):
    rows = [{**request, "text": text} for request, text in zip(asked, TEXTS, strict=True)]
    for row, names in zip(rows, objects, strict=False):
        row["extract_objs"] = names
    return rows


@pytest.fixture
def asked(tmp_path):
    return requests(objhal.BENCHMARK, write_objhal(tmp_path))


@pytest.mark.parametrize(
    ("names", "categories"),
    [
        ([], []),
        (["brown teddy bear"], ["teddy bear"]),
        (["dogs", "a dog", "puppy"], ["dog", "dog"]),  # each word once
        (["kitchen counter", "picnic table"], []),  # compounds that the list lacks
        (["table with chairs"], ["dining table", "chair"]),
        (["train track", "baby elephant"], ["elephant"]),
        (["toilet", "seat"], ["toilet"]),
        (["toilet seat"], ["toilet"]),
        (["men"], ["person"]),
    ],
)
def test_names_become_categories(names, categories):
    assert categories_of(names) == categories


def test_numbers_counted_by_hand(asked):
    rows = answered(asked)
    result = objhal.BENCHMARK.score(rows, rows, draws=20)
    # dog, puppy, bicycle of {dog, cup}; nothing of {car}; chair of {chair}.
    assert result["response_hall"] == 50  # one of the two answers that name any object
    assert result["chair_s"] == pytest.approx(100 / 3)
    assert result["object_hall"] == 25
    assert result["recall"] == 50
    assert result["mean_words"] == pytest.approx((9 + 6 + 2) / 3)
    assert (result["n"], result["n_extracted"], result["warnings"]) == (3, 3, [])
    json.dumps(result, allow_nan=False)


def test_answers_without_objects_are_left_out_and_counted(asked):
    rows = answered(asked, (OBJECTS[0], "dog"))
    result = objhal.BENCHMARK.score(rows, rows, draws=2)
    assert (result["response_hall"], result["n_extracted"]) == (100, 1)
    assert result["warnings"] == ["2 answers have no extract_objs and are left out; a judge gives it"]
    rows = answered(asked, ())
    result = objhal.BENCHMARK.score(rows, rows, draws=2)
    assert [result[name] for name in objhal.METRICS] == [None] * len(objhal.METRICS)


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ('["dog", "tennis racket"]', ["dog", "tennis racket"]),
        ("```json\n[]\n```", []),
        ('As in ["cat"], so:\n["dog"]', ["dog"]),
        ('<think>["cat"]</think>["dog"] [1]', ["dog"]),
    ],
)
def test_lists_are_read(reply, names):
    assert read_objects(reply) == names


@pytest.mark.parametrize(
    ("reply", "reason"), [("", "empty reply"), ("a dog", "no list"), ("[dog]", "no list")]
)
def test_unreadable_lists_have_a_reason(reply, reason):
    with pytest.raises(UnreadableError, match=reason):
        read_objects(reply)


def test_a_judge_extracts_and_short_answers_are_not_asked_about(asked, tmp_path, capsys):
    answers, judged = tmp_path / "answers.jsonl", tmp_path / "judged.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in answered(asked, ())))
    with JudgeServer(otherwise=says('["dog", "car"]')) as server:
        options = [
            "judge",
            "--answers",
            str(answers),
            "--out",
            str(judged),
            "--cache",
            str(tmp_path / "kept"),
        ]
        main(objhal.BENCHMARK, [*options, "--base-url", server.base_url, "--model", "judge-1"])
        assert len(server.asked) == 2  # "A chair." is too short
    assert "3 answers, 0 without a extract_objs" in capsys.readouterr().out
    main(objhal.BENCHMARK, ["score", "--answers", str(judged), "--json", "--draws", "2"])
    result = json.loads(capsys.readouterr().out)
    assert (result["object_hall"], result["chair_s"], result["n_extracted"]) == (
        50,
        pytest.approx(200 / 3),
        3,
    )
    assert result["model"] == "judge-1"


def test_layout_needs_whole_questions(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"id": "0", "question": "x", "label": "dog", "groups": {}, "text": "A dog."}\n')
    with pytest.raises(UserError, match=r"not in the form of objhal \('image_id'\); give --data"):
        main(objhal.BENCHMARK, ["layout", "--answers", str(path), "--out", str(tmp_path / "out")])


def test_layout_of_the_released_script(asked):
    lines = objhal.layout([(question, "A dog.") for question in asked]).splitlines()
    assert json.loads(lines[1]) == {"question_id": 1, "image_id": 2, "prompt": ASKED, "text": "A dog."}


def test_pictures_in_the_file_are_unpacked_once(tmp_path):
    write_objhal(tmp_path, pictures=b"jpeg")
    asked = requests(objhal.BENCHMARK, tmp_path)
    folder = objhal.images(tmp_path)
    assert {path.name for path in folder.iterdir()} == {request["image"] for request in asked}
    assert (folder / "COCO_val2014_000000000002.jpg").read_bytes() == b"jpeg"
    (folder / "COCO_val2014_000000000002.jpg").write_bytes(b"mine")
    assert (objhal.images(tmp_path) / "COCO_val2014_000000000002.jpg").read_bytes() == b"mine"


def test_files_in_another_form_are_named(tmp_path):
    with pytest.raises(UserError, match="Object HalBench's questions"):
        objhal.read(tmp_path)
    path = write_objhal(tmp_path) / objhal.FILE
    path.write_text('{"image_id": 9, "question": "x"}\n')
    with pytest.raises(UserError, match=r"no annotation for 1 image\(s\): 9"):
        objhal.read(tmp_path)
    path.write_text('{"image_id": 1, "question": "x", "image": "@"}\n')
    with pytest.raises(UserError, match="picture of image 1 is not in base64"):
        objhal.images(tmp_path)
    path.write_text('{"question": "x"}\n')
    with pytest.raises(UserError, match=f"{objhal.FILE}:1: expected a question"):
        objhal.read(tmp_path)
