import json
import shutil

import numpy as np
import pytest
import spacy

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks import amber
from sare_jax.evaluation.benchmarks.amber_objects import Scene, find, near_synonyms, nouns_of
from sare_jax.evaluation.benchmarks.benchmark import requests
from sare_jax.evaluation.benchmarks.command import main
from tests.evaluation.benchmarks.small_judges import RELATION, SCENES, write_amber

TEXTS = (
    "a man on a street with a dog, and a person by a vehicle near a lamp",
    "the sky is over the car and a car",
    "Yes",
    "No",
    "No, there is none.",
    "Yes",
)


def answered(asked, texts):
    return [{**request, "text": text} for request, text in zip(asked, texts, strict=True)]


@pytest.fixture
def asked(tmp_path):
    return requests(amber.BENCHMARK, write_amber(tmp_path))


def scene(number: int) -> Scene:
    truth, feared = SCENES[number]
    words = {word for name, others in RELATION.items() for word in (name, *others)}
    return Scene(tuple(truth), tuple(feared), RELATION, frozenset(words), frozenset({"vehicle"}))


@pytest.mark.parametrize(
    ("nouns", "found"),
    [
        ("", (0, 0, 0, 0)),
        ("lamp unicorn", (0, 0, 0, 0)),  # no words of AMBER's
        ("vehicle", (1, 0, 0, 0)),  # never invented
        ("man man person", (3, 0, 1, 0)),  # the second annotated man cannot be named, as in the script
        ("ground", (1, 0, 1, 0)),  # the road's ground before the ground itself
        ("ground floor", (2, 0, 2, 0)),
        ("dog dog sky", (3, 3, 0, 1)),
        ("bush", (1, 1, 0, 1)),
    ],
)
def test_what_a_description_names_by_the_very_words(nouns, found):
    assert find(nouns.split(), scene(1), near_synonyms(None)) == found


def test_near_synonyms_by_word_vectors():
    nlp = spacy.blank("en")
    vectors = {"dog": (1, 0.0), "puppy": (1, 0.1), "road": (0, 1), "track": (0.1, 1), "cat": (1, 1)}
    for word, vector in vectors.items():
        nlp.vocab.set_vector(word, np.array(vector, np.float32))
    similar = near_synonyms(nlp)
    assert similar("dog", "puppy")
    assert not similar("dog", "cat")  # 0.707
    assert similar("unknown", "unknown")
    assert not similar("unknown", "dog")
    known = scene(1).vocabulary | {"puppy", "track", "cat"}
    wider = Scene(scene(1).truth, scene(1).feared, RELATION, known, frozenset())
    assert find(["track", "puppy", "cat"], wider, similar) == (3, 2, 1, 1)


def test_nouns_are_made_singular_and_capitals_left_out():
    assert nouns_of(["Two men sit near the buses. Dogs and a cat sit on the grass.", ""]) == [
        ["man", "bus", "cat", "grass"],
        [],
    ]


def test_numbers_counted_by_hand(asked):
    result = amber.BENCHMARK.score(*[answered(asked, TEXTS)] * 2, draws=20)
    # Nouns of the vocabulary: man, street, dog, person, vehicle (dog invented); sky, car, car (both cars).
    assert result["chair"] == pytest.approx(100 * 3 / 8)
    assert result["cover"] == pytest.approx(100 * (2 + 1) / 5)  # road and man of 4; sky
    assert result["hal"] == 100
    assert result["cog"] == pytest.approx(100 * (1 + 1) / 3)  # dog of 2; car
    # Labels yes, no, no, no; the exact rule reads Yes, No, nothing, Yes.
    assert result["accuracy"] == 50
    assert (result["precision"], result["recall"]) == (100, pytest.approx(100 / 3))
    assert result["f1"] == pytest.approx(200 * 1 / (1 + 3))
    assert (result["accuracy_robust"], result["recall_robust"]) == (75, pytest.approx(200 / 3))
    assert result["f1_robust"] == pytest.approx(200 * 2 / (2 + 3))
    assert result["amber_score"] == pytest.approx((100 - 37.5 + 50) / 2)
    assert result["by"]["dimension"]["existence"]["f1_robust"] == 100
    assert result["by"]["kind"] == {
        "state": {"n": 2, "accuracy": 100, "accuracy_robust": 100} | dict.fromkeys(("f1", "f1_robust"), 100.0)
    }
    assert (result["n"], result["n_descriptions"], result["n_images"]) == (6, 2, 2)
    assert result["unread"] == {"official": 1, "robust": 0}
    json.dumps(result, allow_nan=False)


def test_the_result_says_where_it_is_not_the_official_figure(asked):
    result = amber.BENCHMARK.score(*[answered(asked, TEXTS)] * 2, draws=2)
    assert "released script: nltk's" in result["rule"]
    if not spacy.util.is_package("en_core_web_lg"):
        assert "near synonyms: none" in result["rule"]
        assert any("not AMBER's own figures" in text for text in result["warnings"])


def test_a_part_has_no_numbers_of_the_other(tmp_path):
    folder = write_amber(tmp_path) / "data" / "query"
    yes_no = requests(amber.BENCHMARK, folder / "query_discriminative.json")
    result = amber.BENCHMARK.score(*[answered(yes_no, TEXTS[2:])] * 2, draws=2)
    assert (result["chair"], result["amber_score"], result["accuracy"]) == (None, None, 50)
    assert "chair" not in result["intervals"]
    described = requests(amber.BENCHMARK, folder / "query_generative.json")
    result = amber.BENCHMARK.score(*[answered(described, TEXTS[:2])] * 2, draws=2)
    assert (result["f1"], result["amber_score"], result["hal"]) == (None, None, 100)


def test_unanswered_descriptions_are_left_out_and_questions_wrong(asked):
    result = amber.BENCHMARK.score(
        asked, [{"id": 2, "response": TEXTS[1]}, {"id": 4, "response": "No"}], draws=2
    )
    assert (result["n_descriptions"], result["cover"], result["accuracy"]) == (1, 100, 25)
    assert result["warnings"][0].startswith("4 of 6 questions have no answer and count as wrong where they")


def test_prompts(asked, tmp_path):
    assert [request["instruction"] for request in asked[1:3]] == [
        "Describe this image.",
        "Is the man tall in this image?",
    ]
    lineage = requests(amber.BENCHMARK, tmp_path, prompt="lineage")
    assert lineage[0]["instruction"] == "Describe this image."
    assert lineage[2]["instruction"].endswith("image?\nAnswer the question using a single word or phrase.")


def test_layout_for_the_released_script(asked, tmp_path, capsys):
    answers, out = tmp_path / "answers.jsonl", tmp_path / "responses.json"
    answers.write_text("".join(json.dumps(row) + "\n" for row in answered(asked, TEXTS)))
    main(amber.BENCHMARK, ["layout", "--answers", str(answers), "--out", str(out)])
    assert "6 of 6" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written[0] == {"id": 1, "response": TEXTS[0]}
    assert written[4] == {"id": 5, "response": "No"}
    # The script's own form is read back, with the files beside it.
    main(amber.BENCHMARK, ["score", "--answers", str(out), "--data", str(tmp_path), "--json", "--draws", "2"])
    assert json.loads(capsys.readouterr().out)["accuracy"] == 75
    main(amber.BENCHMARK, ["score", "--answers", str(answers), "--draws", "2"])
    shown = capsys.readouterr().out
    assert "f1_robust" in shown
    assert "existence" in shown


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("annotations.json", "{}", "expected AMBER's annotations"),
        ("relation.json", '{"road": 1}', "expected AMBER's word lists"),
        ("query/query_all.json", "{}", "expected a list"),
        ("query/query_all.json", '[{"id": 99, "image": "a", "query": "b"}]', r"entry 0.*'99'"),
        ("annotations.json", '[{"id": 1, "type": "other", "truth": "no"}]', "entry 0 is not a query"),
    ],
)
def test_files_in_another_form_are_named(tmp_path, name, content, message):
    (write_amber(tmp_path) / "data" / name).write_text(content)
    with pytest.raises(UserError, match=message):
        amber.read(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match="give AMBER's folder"):
        amber.read(tmp_path)
    shutil.rmtree(write_amber(tmp_path / "a") / "data" / "query")
    with pytest.raises(UserError, match="give AMBER's folder or a query file"):
        amber.read(tmp_path / "a")


def test_images_lie_in_the_folder(tmp_path):
    write_amber(tmp_path)
    assert amber.images(tmp_path) == tmp_path / "image"
    (tmp_path / "images").mkdir()
    assert amber.images(tmp_path / "data" / "query" / "query_all.json") == tmp_path / "images"


@pytest.mark.parametrize("broken", [1, {}, {"truth": ["a"]}, {"truth": 1, "feared": []}])
def test_requests_without_their_lists_are_refused(asked, broken):
    rows = answered(asked, TEXTS)
    rows[0]["scene"] = broken
    with pytest.raises(UserError, match=r"question 1 .* is not in the benchmark's form"):
        amber.BENCHMARK.score(rows, rows)
