"""The worst of several captions of an image."""

import pytest

from sare_jax.evaluation.metrics import chair
from sare_jax.evaluation.worst import worst_captions
from tests.evaluation.small_worlds import truth_of

TEXTS = {
    1: ["A cat.", "A cat and a dog.", "A dog and a bus."],
    2: ["A cat here.", "A cat there.", "A cat."],
    3: ["A bus first.", "A bus then.", "A cat."],
}


def records(number=3):
    return [{"image_id": image, "text": text} for image, texts in TEXTS.items() for text in texts[:number]]


def test_the_caption_that_invents_most_is_kept_and_of_equal_ones_the_first(tmp_path):
    truth = truth_of(tmp_path, {image: ["cat"] for image in TEXTS})
    chosen, about = worst_captions(records(), truth)
    assert [record["text"] for record in chosen] == ["A dog and a bus.", "A cat here.", "A bus first."]
    assert about["draws"] == 3
    assert about["hallucinated_draws"] == pytest.approx(100 * 4 / 9)
    assert chair.score(chosen, truth)["chair_s"] == pytest.approx(100 * 2 / 3)


def test_single_captions_stay(tmp_path):
    truth = truth_of(tmp_path, {image: ["cat"] for image in TEXTS})
    chosen, about = worst_captions(records(1), truth)
    assert chosen == records(1)
    assert about["draws"] == 1
