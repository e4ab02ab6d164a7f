"""CHAIR_S of some categories, from a result that was measured for all."""

import json

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.metrics import chair
from sare_jax.evaluation.metrics.chair_categories import counts_of, share_inventing
from tests.evaluation.small_worlds import truth_of

CAPTIONS = {
    1: "A cat and a dog. The dog sleeps.",  # dog
    2: "A cat, a bus and a dog.",  # bus and dog
    3: "A cat.",
    4: "A small car passes.",  # car
}


@pytest.fixture
def result(tmp_path):
    truth = truth_of(tmp_path, {image: ["cat"] for image in CAPTIONS})
    captions = [{"image_id": image, "caption": text} for image, text in CAPTIONS.items()]
    return json.loads(json.dumps(chair.score(captions, truth)))


def test_each_caption_keeps_what_it_invents(result):
    assert result["per_image"]["invented"] == [["dog"], ["bus", "dog"], [], ["car"]]


@pytest.mark.parametrize(
    ("categories", "hallucinated"),
    [
        (["dog"], [1, 1, 0, 0]),
        (["bus", "car"], [0, 1, 0, 1]),
        (["cat", "horse"], [0, 0, 0, 0]),
        ([], [0] * 4),
    ],
)
def test_a_caption_counts_where_it_invents_one_of_them(result, categories, hallucinated):
    assert counts_of(result, categories).tolist() == [[1, value] for value in hallucinated]
    share = share_inventing(result, categories)
    assert share["chair_s"] == 25 * sum(hallucinated)
    assert share["n"] == 4
    assert share["interval"][0] <= share["chair_s"] <= share["interval"][1]


def test_all_categories_give_chair_s(result):
    every = share_inventing(result, list(result["hallucinated_categories"]))
    assert every["chair_s"] == result["chair_s"] == 75
    assert every["interval"] == result["intervals"]["chair_s"]


def test_a_result_without_them_is_refused(result):
    del result["per_image"]["invented"]
    with pytest.raises(UserError, match="score the captions again"):
        share_inventing(result, ["dog"])
