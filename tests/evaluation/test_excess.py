"""What an attack gives back beyond what it teaches the base model."""

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.excess import excess
from sare_jax.evaluation.metrics import chair
from sare_jax.records.coco import read_truth


@pytest.fixture(scope="module")
def truth(coco80):
    return read_truth(coco80)


def invented(truth, places):
    """CHAIR of captions of which those at some places name a zebra that is not there."""
    ids = [i for i in truth.image_ids if "zebra" not in truth.categories(i)][:60]
    captions = [
        {"image_id": image, "caption": "A zebra." if place in places else "Nothing."}
        for place, image in enumerate(ids)
    ]
    return {"chair": chair.score(captions, truth, draws=50)}


def test_what_the_base_learns_is_no_excess(truth):
    run = invented(truth, range(6)), invented(truth, range(18))
    base = invented(truth, range(30)), invented(truth, range(42))
    found = excess(run, base, draws=300)["chair.chair_s"]
    assert (found["given_back"], found["by_base"]) == (pytest.approx(20), pytest.approx(20))
    assert found["difference"] == pytest.approx(0)
    assert found["interval"][0] < 0 < found["interval"][1]
    assert (found["n"], found["discordant"]) == (60, 24)


def test_images_are_paired(truth):
    """A run and a base that change on the same images differ by nothing in every resample."""
    run = invented(truth, range(6)), invented(truth, range(18))
    base = invented(truth, [*range(6), *range(30, 60)]), invented(truth, [*range(18), *range(30, 60)])
    found = excess(run, base, draws=300)["chair.chair_s"]
    assert found["difference"] == pytest.approx(0)
    assert found["interval"] == pytest.approx([0, 0])
    assert found["discordant"] == 0


def test_excess_has_the_sign_of_what_came_back_beyond(truth):
    run = invented(truth, range(6)), invented(truth, range(40))
    base = invented(truth, range(30)), invented(truth, range(33))
    found = excess(run, base, draws=300)["chair.chair_s"]
    assert found["difference"] == pytest.approx(100 * (34 - 3) / 60)
    assert found["interval"][0] > 0
    turned = excess(base, run, draws=300)["chair.chair_s"]
    assert turned["difference"] == pytest.approx(-found["difference"])
    assert turned["interval"] == pytest.approx([-found["interval"][1], -found["interval"][0]])


def test_rows_by_other_rules_are_refused(truth):
    row = invented(truth, range(6))
    other = {"chair": row["chair"] | {"rule": "another"}}
    with pytest.raises(UserError, match="measured differently"):
        excess((row, row), (row, other), draws=20)
