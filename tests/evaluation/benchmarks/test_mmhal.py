import json

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.benchmarks import mmhal
from sare_jax.evaluation.benchmarks.benchmark import requests
from sare_jax.evaluation.benchmarks.command import main
from sare_jax.llm.replies import UnreadableError
from tests.evaluation.benchmarks.small_judges import write_mmhal
from tests.evaluation.judging.judge_server import JudgeServer, says

TEXTS = ("It is yellow.", "A man sits there.", "Two vases")


def answered(asked, texts=TEXTS, ratings=()):
    rows = [{**request, "text": text} for request, text in zip(asked, texts, strict=True)]
    for row, rating in zip(rows, ratings, strict=False):
        row["rating"] = rating
    return rows


@pytest.fixture
def asked(tmp_path):
    return requests(mmhal.BENCHMARK, write_mmhal(tmp_path))


def test_numbers_counted_by_hand(asked):
    rows = answered(asked, ratings=(6, 2, 3))
    result = mmhal.BENCHMARK.score(rows, rows, draws=20)
    assert result["score"] == pytest.approx(11 / 3)
    assert result["hallucination_rate"] == pytest.approx(100 / 3)
    assert result["informativeness"] == pytest.approx(100 * (3 + 2 + 0) / 9)
    assert result["mean_words"] == pytest.approx((3 + 4 + 2) / 3)
    assert result["by"]["type"]["adversarial"] == {"n": 1, "score": 2, "hallucination_rate": 100}
    assert (result["n"], result["n_rated"], result["warnings"]) == (3, 3, [])
    json.dumps(result, allow_nan=False)


def test_without_ratings_there_is_no_score(asked):
    rows = answered(asked)
    result = mmhal.BENCHMARK.score(rows, rows, draws=2)
    assert [result[name] for name in mmhal.RATED] == [None] * 3
    assert result["mean_words"] == 3
    assert set(result["intervals"]) == {"mean_words"}
    assert result["warnings"] == ["3 answers have no rating and are left out; a judge gives it"]


@pytest.mark.parametrize("rating", [7, -1, 2.5, True, "4", None, [3]])
def test_only_whole_ratings_from_0_to_6_count(asked, rating):
    rows = answered(asked, ratings=(6, rating, 4))
    result = mmhal.BENCHMARK.score(rows, rows, draws=2)
    assert (result["score"], result["n_rated"]) == (5, 2)
    assert result["warnings"][0].startswith("1 answers have no rating")


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("It is right.\nRating: 6", 6),
        ("**Rating:** 0", 0),
        ("<think>Rating: 1?</think>Rating: 3, not informative", 3),
        ("The rating is 4. Rating: 4", 4),
        ("rating: 2, very informative, with hallucination", 2),
    ],
)
def test_ratings_are_read(reply, rating):
    assert mmhal.read_rating(reply) == rating


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "empty reply"),
        ("I think 4 of 6", "no rating"),
        ("Rating: 3\nRating: 5", "several ratings"),
        ("Rating: 7", "out of range"),
        ("Rating: 4.5", "out of range"),
    ],
)
def test_unreadable_ratings_have_a_reason(reply, reason):
    with pytest.raises(UnreadableError, match=reason):
        mmhal.read_rating(reply)


def test_a_judge_rates_and_its_name_stands_in_the_score(asked, tmp_path, capsys):
    answers, rated = tmp_path / "answers.jsonl", tmp_path / "rated.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in answered(asked)))
    with JudgeServer(says("No rating at all."), otherwise=says("Fine. Rating: 5")) as server:
        options = ["judge", "--answers", str(answers), "--out", str(rated), "--cache", str(tmp_path / "kept")]
        who = ["--base-url", server.base_url, "--model", "judge-1", "--parallel", "1", "--tries", "1"]
        main(mmhal.BENCHMARK, [*options, *who])
        assert "3 answers, 1 without a rating" in capsys.readouterr().out
        prompts = [request["messages"][-1]["content"] for request in server.asked]
    assert "Things in the picture: Fire hydrant\n" in prompts[0]
    assert "Answer by a person: No one sits on it." in prompts[1]
    assert "Things in the picture: not noted\n" in prompts[2]
    main(mmhal.BENCHMARK, ["score", "--answers", str(rated), "--json", "--draws", "2"])
    result = json.loads(capsys.readouterr().out)
    assert (result["score"], result["n_rated"], result["model"]) == (5, 2, "judge-1")
    assert result["warnings"] == [
        "1 answers have no rating (no rating: 1) and are left out; a judge gives it"
    ]
    assert len(result["instruction"]) == 12


def test_the_released_layout_goes_out_and_comes_back(asked, tmp_path, capsys):
    answers, out = tmp_path / "answers.jsonl", tmp_path / "response.json"
    answers.write_text("".join(json.dumps(row) + "\n" for row in answered(asked)))
    main(mmhal.BENCHMARK, ["layout", "--answers", str(answers), "--out", str(out)])
    released = json.loads((tmp_path / "response_template.json").read_text())
    written = json.loads(out.read_text())
    assert written == [{**r, "model_answer": text} for r, text in zip(released, TEXTS, strict=True)]
    out.write_text(json.dumps([{**record, "rating": 4} for record in written]))
    capsys.readouterr()
    main(mmhal.BENCHMARK, ["score", "--answers", str(out), "--data", str(tmp_path), "--json"])
    assert json.loads(capsys.readouterr().out)["score"] == 4
    main(mmhal.BENCHMARK, ["score", "--answers", str(out), "--data", str(tmp_path)])
    assert "hallucination_rate" in capsys.readouterr().out


def test_requests(asked, tmp_path):
    assert [request["image"] for request in asked] == ["a_o.jpg", "b_o.jpg", "c_o.jpg"]
    assert asked[0]["instruction"] == "What color is the cap?"
    assert mmhal.images(tmp_path) == tmp_path / "images"
    with pytest.raises(UserError, match="MMHal-Bench's questions"):
        mmhal.read(tmp_path / "none")
    (tmp_path / "response_template.json").write_text('[{"question": "x"}]')
    with pytest.raises(UserError, match="entry 0 is not a question in MMHal-Bench's format"):
        mmhal.read(tmp_path)
