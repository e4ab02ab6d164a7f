import json
import time
from collections import Counter

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.metrics import pope
from sare_jax.evaluation.metrics.pope_parse import parse_official, parse_robust
from sare_jax.records.coco import read_truth
from tests.evaluation.small_worlds import truth_of, write_coco


def asked(labels, name="dog"):
    return [
        {"question_id": i, "image": f"{i}.jpg", "text": f"Is there a {name} in the image?", "label": label}
        for i, label in enumerate(labels, start=1)
    ]


def answered(texts):
    return [{"question_id": i, "answer": text} for i, text in enumerate(texts, start=1)]


@pytest.mark.parametrize("policy", ["as_wrong", "as_yes", "exclude"])
def test_po_01_unclear_answers_have_a_class_and_a_policy(policy):
    labels = ["yes", "no", "no", "yes"]
    result = pope.score(asked(labels), answered(["maybe", "", "The photo is dark", "Yes"]), unknown=policy)
    assert result["robust"]["unknown"] == 3
    assert result["robust"]["unknown_examples"] == ["maybe", "", "The photo is dark"]
    assert policy.replace("_", " ") in result["robust"]["rule"]
    assert result["confusion"] == {"tp": 2, "fp": 2, "tn": 0, "fn": 0}  # the public script: all yes
    expected = {
        "as_wrong": {"tp": 1, "fp": 2, "tn": 0, "fn": 1},
        "as_yes": result["confusion"],
        "exclude": {"tp": 1, "fp": 0, "tn": 0, "fn": 0},
    }[policy]
    assert result["robust"]["confusion"] == expected
    assert result["robust"]["n"] == (1 if policy == "exclude" else 4)


@pytest.mark.parametrize(
    ("text", "robust", "official"),
    [
        ("NO", "no", "yes"),
        ("No!", "no", "yes"),
        ("No\nThere is", "no", "yes"),
        ("**No**", "no", "yes"),
        ('"No"', "no", "yes"),
        ("Answer: no", "no", "no"),
        ("  yes", "yes", "yes"),
    ],
)
def test_po_02_case_punctuation_and_markup(text, robust, official):
    assert parse_robust(text) == robust
    assert parse_official(text) == official


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("No, there is no dog in the image.", "no"),
        ("There isn't a dog here.", "no"),
        ("I don’t see any dogs.", "no"),
        ("There is a cat, but no dog.", "no"),
        ("There is no cat, but there is a dog.", "yes"),
        ("The image shows two puppies on grass.", "yes"),
        ("The dog is missing.", "no"),
        ("Without doubt there is a dog.", "yes"),
        ("Nobody is there, but a dog is visible.", "yes"),
        ("The image shows a cat.", "unknown"),
        ("I cannot tell whether there is a dog.", "unknown"),
        ("It is hard to say.", "unknown"),
        ("Yes and no.", "unknown"),
        ("No idea.", "unknown"),
        ("I now know another thing", "unknown"),
        ("There is nothing but a dog.", "yes"),
        ("I see nothing except for a cat.", "no"),
        ("There is nothing but a cat and no dog.", "no"),
        ("I see no animal but a dog.", "yes"),
        ("There is no animal other than a dog.", "yes"),
        ("There are no other animals besides the cat.", "no"),
        ("There is no dog but a cat.", "no"),
        ("There is no dog but no cat either.", "no"),
        ("There is no dog but it looks like a park.", "no"),
        ("There is not only a dog but a cat.", "yes"),
        ("There is nothing in the image.", "no"),
        ("Final answer: Yes", "yes"),
        ("nope", "no"),
    ],
)
def test_denials_and_assertions_about_a_dog(text, verdict):
    assert parse_robust(text, "dog") == verdict


def test_po_05_names_of_the_averages():
    labels = ["yes"] * 1500 + ["no"] * 1410
    texts = ["Yes"] * 1183 + ["No"] * 317 + ["Yes"] * 31 + ["No"] * 1379
    result = pope.score(asked(labels), answered(texts), draws=50)
    assert result["confusion"] == {"tp": 1183, "fp": 31, "tn": 1379, "fn": 317}
    assert result["f1"] == pytest.approx(87.178, abs=5e-4)
    lists = {"a": result, "b": pope.score(asked(labels), answered(["Yes"] * 2910), draws=50)}
    summary = pope.summarise(lists, draws=50)
    second = 100 * 2 * 1500 / (2 * 1500 + 1410)
    assert summary["mean_f1"] == pytest.approx((result["f1"] + second) / 2)
    assert summary["pooled_f1"] == pytest.approx(100 * 2 * 2683 / (2 * 2683 + 31 + 1410 + 317))
    assert summary["n"] == 5820
    low, high = summary["intervals"]["mean_f1"]
    assert low < summary["mean_f1"] < high


def test_excluding_most_of_a_long_list_is_no_square_of_work(tmp_path):
    path = tmp_path / "long.jsonl"
    question = {"text": "Is there a dog in the image?", "label": "yes", "image": "1.jpg"}
    path.write_text("".join(json.dumps(question | {"question_id": i}) + "\n" for i in range(15_000)))
    started = time.process_time()
    questions, identity = pope.read_questions(path, exclude=map(str, range(1, 15_000)))
    assert time.process_time() - started < 3  # three times as long where each id is looked for in a list
    assert [question["question_id"] for question in questions] == [0]
    assert len(identity["excluded"]) == 14_999


def test_po_07_labels_stay_and_ids_can_be_excluded(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(question) + "\n" for question in asked(["yes", "no", "yes", "no"])))
    questions, identity = pope.read_questions(path, exclude=[2])
    assert [q["label"] for q in questions] == ["yes", "yes", "no"]
    assert (identity["n"], identity["excluded"], len(identity["sha256"])) == (3, ["2"], 64)
    with pytest.raises(UserError, match="99"):
        pope.read_questions(path, exclude=["99"])


def test_po_08_forms_of_a_list(tmp_path):
    rows = asked(["yes", "no"])
    array, lines, without = (tmp_path / name for name in ("a.json", "a.jsonl", "b.jsonl"))
    array.write_text(json.dumps(rows))
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert pope.read_questions(array)[0] == pope.read_questions(lines)[0]
    without.write_text(json.dumps(rows[0]) + "\n" + json.dumps({"question_id": 2, "text": "x"}) + "\n")
    with pytest.raises(UserError, match=r"b\.jsonl: record 2: no key 'label'"):
        pope.read_questions(without)
    without.write_text(json.dumps({**rows[0], "label": False}))
    with pytest.raises(UserError, match="label is False"):
        pope.read_questions(without)


def test_released_lists_read_and_score(shared_data):
    started = time.process_time()
    results = {}
    for kind in pope.KINDS:
        questions, identity = pope.read_questions(shared_data / "pope" / f"coco_pope_{kind}.json")
        assert identity["n"] == 3000
        assert all("object" in question for question in questions)
        right = [{"question_id": q["question_id"], "text": q["label"].capitalize()} for q in questions]
        assert pope.score(questions, right)["f1"] == 100
        yes = pope.score(questions, [{**answer, "text": "Yes."} for answer in right])
        assert (yes["accuracy"], yes["recall"], yes["yes_ratio"]) == (50, 100, 100)
        results[kind] = pope.score(
            questions,
            [{**a, "text": "no" if a["question_id"] % 10 < 3 else a["text"]} for a in right],
        )
        assert results[kind]["n_images"] == 500
    assert time.process_time() - started < 6  # nine scorings of 3,000 answers
    summary = pope.summarise(results)
    assert summary["pooled_f1"] == pytest.approx(summary["mean_f1"])  # the lists share their positives


@pytest.mark.parametrize("kind", pope.KINDS)
def test_po_10_negatives_after_folding_unique_balanced_seeded(tmp_path, kind):
    world = {i: [*["couch", "cat", "dog", "bed"][: 2 + i % 3], "person"] for i in range(40)}
    elsewhere = {99: ["car", "cup", "tv"], 98: ["cup", "tv"]}
    references = {i: ["a sofa and a lamp", "a car"] for i in world}
    truth = read_truth(write_coco(tmp_path, world | elsewhere, references))
    questions = pope.build(truth, kind, num_images=10, questions_per_image=4, seed=5)
    assert questions == pope.build(truth, kind, num_images=10, questions_per_image=4, seed=5)
    assert [q["question_id"] for q in questions] == list(range(1, 41))
    by_image: dict[int, list[dict]] = {}
    for question in questions:
        by_image.setdefault(question["image_id"], []).append(question)
    for image_id, four in by_image.items():
        assert [q["label"] for q in four] == ["yes", "no", "yes", "no"]
        assert len({q["object"] for q in four}) == 4
        for question in four:
            inside = question["object"] in truth.categories(image_id)
            assert inside == (question["label"] == "yes")
            if image_id < 98:  # "a sofa", "a car" stand in its references
                assert question["label"] == "yes" or question["object"] not in ("couch", "car")


def test_kinds_share_images_and_follow_the_official_order(tmp_path):
    categories = {
        1: ["cat", "dog"],
        2: ["cat", "bed"],
        3: ["cat", "bed"],
        4: ["bus", "car"],
        5: ["car", "person"],
        6: ["car", "tv"],
        7: ["dog", "tv"],
    }
    truth = truth_of(tmp_path, categories)
    of = {
        kind: pope.build(truth, kind, num_images=1, questions_per_image=4, image_ids=[1])
        for kind in pope.KINDS
    }
    assert [q["object"] for q in of["popular"]] == ["cat", "car", "dog", "bed"]  # car 3, cat 3, bed 2, …
    assert [q["object"] for q in of["adversarial"]] == ["cat", "bed", "dog", "tv"]
    images = [
        {q["image_id"] for q in pope.build(truth, kind, num_images=4, questions_per_image=4)}
        for kind in pope.KINDS
    ]
    assert images[0] == images[1] == images[2]


def test_random_negatives_are_uniform(tmp_path):
    truth = truth_of(tmp_path, {i: ["cat"] for i in range(600)} | {999: ["dog"], 998: ["bus"], 997: ["tv"]})
    questions = pope.build(truth, "random", num_images=600, questions_per_image=2, image_ids=range(600))
    drawn = Counter(q["object"] for q in questions if q["label"] == "no")
    assert set(drawn) == {"dog", "bus", "tv"}
    assert min(drawn.values()) > 160


def test_articles(tmp_path):
    truth = truth_of(tmp_path, {1: ["umbrella", "dog"], 2: ["oven", "tv"]})
    texts = [q["text"] for q in pope.build(truth, "popular", num_images=2, questions_per_image=4)]
    assert "Is there an umbrella in the image?" in texts
    assert "Is there a tv in the image?" in texts


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"num_images": 9}, "num_images: 9 asked for, but 3 of 3"),
        ({"questions_per_image": 3}, "questions_per_image: 3"),
        ({"questions_per_image": 6}, "0 of 3 images have at least 3"),
        ({"kind": "rare"}, "'rare'"),
        ({"image_ids": [1, 77]}, "77"),
    ],
)
def test_what_cannot_be_built_says_why(tmp_path, change, names):
    truth = truth_of(tmp_path, {1: ["cat", "dog"], 2: ["bus", "car"], 3: ["tv", "bed"]})
    options = {"kind": "random", "num_images": 2, "questions_per_image": 4} | change
    with pytest.raises(UserError, match=names):
        pope.build(truth, **options)


def test_requests_carry_what_scoring_needs(tmp_path):
    truth = truth_of(tmp_path, {1: ["cat", "dog"], 2: ["bus", "car"]})
    questions = pope.build(truth, "random", num_images=2, questions_per_image=4)
    requests = pope.requests(questions, lambda text: f"List all! {text}")
    assert requests[0]["instruction"] == f"List all! {questions[0]['text']}"
    replies = [
        {**r, "text": "Yes" if r["label"] == "yes" else "No, it is not.", "tokens": 3} for r in requests
    ]
    alone, paired = pope.score(replies, replies), pope.score(questions, replies)
    assert alone["accuracy"] == paired["accuracy"] == 100
    assert alone["questions"] == paired["questions"]
    assert alone["mean_words"] == pytest.approx(2.5)


def test_answers_by_id_or_in_order():
    questions = asked(["yes", "no"])
    assert pope.score(questions, [{"answer": "yes"}, {"answer": "no"}])["accuracy"] == 100
    assert pope.score(questions, answered(["yes", "no"])[::-1])["accuracy"] == 100
    with pytest.raises(UserError, match="1 answers without question_id for 2"):
        pope.score(questions, [{"answer": "yes"}])
    named = [{"question": "is there a dog in the image?", "answer": text} for text in ("yes", "no")]
    assert pope.score(questions, named)["accuracy"] == 100
    named[1]["question"] = "Is there a cat in the image?"
    with pytest.raises(UserError, match="answer 2 is to 'Is there a cat"):
        pope.score(questions, named)


def test_missing_repeated_and_stray_answers_are_named():
    questions = asked(["yes", "no", "no"])
    result = pope.score(questions, answered(["yes", None]))
    assert (result["n"], result["skipped"]) == (1, 2)
    assert result["dropped"]["no answer"]["which"] == ["3"]
    assert result["dropped"]["answer is no text"]["which"] == ["2"]
    twice = pope.score(questions, answered(["yes", "no", "no"]) * 2)
    assert (twice["n"], twice["dropped"]["repeated"]["which"]) == (3, ["1", "2", "3"])
    with pytest.raises(UserError, match=r"more than one answer.* 1;"):
        pope.score(questions, [*answered(["yes"]), *answered(["no"])])
    with pytest.raises(UserError, match="not in the list: 9"):
        pope.score(questions, [{"question_id": 9, "answer": "yes"}])
    with pytest.raises(UserError, match="nothing left to score"):
        pope.score(questions, answered([None]))
    with pytest.raises(UserError, match="every answer is unknown"):
        pope.score(questions, answered(["maybe"] * 3), unknown="exclude")


def test_intervals_resample_images_not_questions():
    questions = [{**q, "image": str(i // 6)} for i, q in enumerate(asked(["yes", "no"] * 150))]
    texts = ["Yes" if i // 6 % 2 else "No" for i in range(300)]  # all right or all wrong for an image's label
    labels = [{**q, "label": "yes"} for q in questions]
    result = pope.score(labels, answered(texts), draws=2000)
    low, high = result["intervals"]["accuracy"]
    assert (high - low) / 2 == pytest.approx(1.96 * 100 * (0.25 / 50) ** 0.5, rel=0.1)


def test_command_line(tmp_path, capsys):
    world = {i: ["cat", "dog", "bed"] for i in range(5)} | {9: ["bus", "car", "tv"]}
    annotations = tmp_path / "truth.json"
    annotations.write_text(json.dumps(world))
    built = tmp_path / "q.jsonl"
    common = ["--truth", str(annotations), "--kind", "popular", "--images", "4"]
    pope.main(["build", *common, "--out", str(built)])
    pope.main(["build", *common])
    assert capsys.readouterr().out == built.read_text()
    questions, _ = pope.read_questions(built)
    replies = tmp_path / "a.jsonl"
    rows = [{"question_id": q["question_id"], "answer": q["label"]} for q in questions]
    replies.write_text("".join(json.dumps(row) + "\n" for row in rows))
    left_out = tmp_path / "bad.txt"
    left_out.write_text("1\n2\n")
    files = ["--questions", str(built), "--answers", str(replies), "--exclude", str(left_out)]
    pope.main(["score", *files, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["n"], result["f1"], result["questions"]["excluded"]) == (22, 100, ["1", "2"])
    pope.main(["score", *files])
    shown = capsys.readouterr().out
    assert "excluded by id: 1, 2" in shown
    assert "robust parser" in shown


def test_the_old_name_of_the_truth_is_refused_with_the_new_one(tmp_path):
    with pytest.raises(UserError, match=r"^--annotations: is called --truth now$"):
        pope.main(["build", "--annotations", str(tmp_path), "--kind", "random"])


@pytest.mark.parametrize("keys", ["question_id image text label", "question_id image question label"])
def test_a_question_list_is_no_file_of_answers(tmp_path, keys):
    rows = [{**q, "question": q["text"]} for q in asked(["yes", "no"])]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps({key: row[key] for key in keys.split()}) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"q\.jsonl: is a question list: labels, and no answers; give what"):
        pope.main(["score", "--questions", str(path), "--answers", str(path)])


def test_answered_requests_hold_labels_and_are_scored(tmp_path, capsys):
    questions = asked(["yes", "no"])
    requests = [{**request, "text": "Yes"} for request in pope.requests(questions)]
    for name, rows in (("q", questions), ("a", requests)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pope.main(
        ["score", "--questions", str(tmp_path / "q.jsonl"), "--answers", str(tmp_path / "a.jsonl"), "--json"]
    )
    assert json.loads(capsys.readouterr().out)["accuracy"] == 50
