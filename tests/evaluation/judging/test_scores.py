"""Scores that a judge gave elsewhere fill the Info. column of the rows whose captions they are about."""

import json

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.judging.informativeness import METRIC, JudgeSettings
from sare_jax.evaluation.metrics.metric import AtHand
from sare_jax.language.words import coco_table
from sare_jax.records.coco import Truth
from sare_jax.records.texts import match_captions
from sare_jax.settings.building import build

TRUTH = Truth(dict.fromkeys((1, 2, 3), ("dog",)), {}, {1: "a.png"}, coco_table(), "small")


@pytest.fixture
def measured(tmp_path):
    """Measures captions, image → text, by scores; each a record of the file."""

    def by(captions, *scores):
        path = tmp_path / "scores.jsonl"
        path.write_text("".join(json.dumps(score) + "\n" for score in scores))
        records = [{"image_id": image, "caption": text} for image, text in captions.items()]
        settings = JudgeSettings(scores=str(path))
        METRIC.check(settings)
        at_hand = AtHand(records, match_captions(records, TRUTH), TRUTH, {}, 20, 0)
        return METRIC.measure(at_hand, settings)

    return by


def test_a_row_gets_the_scores_of_its_own_captions(measured):
    found = measured(
        {1: "A dog.", 2: "A cat.", 3: ""},
        {"image": "a.png", "caption": "A dog.", "score": 40},
        {"image_id": 2, "caption": "Another cat.", "score": 90},
        {"image_id": 3, "caption": "A dog.", "score": 80.5},
    )
    assert found["informativeness"] == pytest.approx((40 + 1) / 2)
    assert (found["n"], found["skipped"], found["failed"]) == (2, 1, 0)
    assert found["dropped"] == {"no score": {"count": 1, "which": ["2"]}}
    assert found["intervals"]["informativeness"][0] >= 1
    assert "given elsewhere" in found["rule"]


def test_a_row_without_a_scored_caption_says_so(measured):
    found = measured({1: "A cat.", 3: ""}, {"image_id": 1, "caption": "A dog.", "score": 40})
    assert found == "not measured: no caption has a score"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"image_id": 1, "caption": "A dog."}, "record 1: score is None, need a number"),
        ({"image_id": 1, "caption": "A dog.", "score": 0.4}, r"record 1: score is 0\.4, need 1 to 100"),
        ({"image_id": 1, "caption": "A dog.", "score": True}, "record 1: score is True, need a number"),
        ({"image_id": 1, "score": 3}, "record 1 needs image_id"),
    ],
)
def test_what_is_no_score_is_named(measured, record, message):
    with pytest.raises(UserError, match=rf"scores\.jsonl: {message}"):
        measured({1: "A dog."}, record)


def test_two_scores_of_a_caption_and_two_judges_are_refused(measured):
    twice = [{"image_id": 1, "caption": "A dog.", "score": score} for score in (3, 4)]
    with pytest.raises(UserError, match="record 2: image 1 has another score for that caption"):
        measured({1: "A dog."}, *twice)
    with pytest.raises(UserError, match=r"informativeness\.scores: gone: no such file"):
        METRIC.check(JudgeSettings(scores="gone"))
    with pytest.raises(UserError, match=r"o\.scores: o\.judge would be asked for the same"):
        build(JudgeSettings, {"scores": "a", "judge": "deepseek"}, "o")
