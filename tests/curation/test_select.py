import numpy as np
import pytest

from sare_jax.curation.select import PAPER, Thresholds, by_numbers, by_quantiles, select
from sare_jax.errors import UserError
from sare_jax.settings import FixedThresholds, QuantileThresholds


def scores(*rows):
    return [np.array(row, np.float32) for row in rows]


def apart(rows):
    """A piece of its own for every object."""
    return [[(10 * o, 10 * o + 5) for o in range(len(row))] for row in rows]


def test_cur_02_comparisons_are_strict():
    rows = scores([32.0, 32.01, 23.0, 22.99, 27.0])
    chosen = select(rows, apart(rows), PAPER)
    assert chosen.pos == [(0, 1)]
    assert chosen.neg == [(0, 3)]
    assert chosen.dropped_objects["between_t1_and_t0"] == 3


def test_cur_02_a_mean_on_the_threshold_is_not_reliable():
    rows = scores([27.5, 27.5], [27.5, 27.6])
    chosen = select(rows, apart(rows), PAPER)
    assert chosen.sent == [1]
    assert chosen.dropped_sentences == {"mean_not_above_t2": 1}


def test_cur_03_efuf_asks_for_the_minimum_too():
    rows = scores([40, 22])
    assert select(rows, apart(rows), PAPER, rule="paper").sent == [0]
    chosen = select(rows, apart(rows), PAPER, rule="efuf")
    assert chosen.sent == []
    assert chosen.dropped_sentences == {"minimum_not_above_t1": 1}


@pytest.mark.parametrize(
    ("conflicts", "neg", "pos"),
    [("keep", [(0, 1)], [(0, 0), (0, 2)]), ("neg_wins", [(0, 1)], [(0, 2)]), ("drop", [], [(0, 2)])],
)
def test_cur_13_a_piece_with_both_kinds(conflicts, neg, pos):
    rows = scores([35, 20, 36])
    pieces = [[(0, 20), (0, 20), (21, 40)]]  # " a dog and a frisbee", then another piece
    chosen = select(rows, pieces, PAPER, conflicts=conflicts)
    assert (chosen.neg, chosen.pos, chosen.conflicts) == (neg, pos, 1)
    assert chosen.dropped_objects["conflict"] == 3 - len(neg) - len(pos)


def test_cur_04_scores_and_objects_are_never_zipped_short():
    with pytest.raises(ValueError, match="1 scores for 2 objects"):
        select(scores([30.0]), [[(0, 5), (6, 9)]], PAPER)


def test_a_caption_cut_off_teaches_no_ending():
    rows = scores([40, 40], [40, 40])
    chosen = select(rows, apart(rows), PAPER, cut_off=[True, False])
    assert chosen.sent == [1]
    assert len(chosen.pos) == 4
    assert chosen.dropped_sentences == {"cut_off": 1}


def test_quantiles_read_limits_off_the_scores():
    rows = scores([0, 1, 2, 3], [4, 5, 6, 7, 8, 9, 10])
    limits = by_quantiles(QuantileThresholds(q0=0.8, q1=0.2, q2=0.5), rows, "some/clip")
    assert (limits.t0, limits.t1, limits.t2) == pytest.approx((8.0, 2.0, (1.5 + 7) / 2))
    assert limits.model == "some/clip"
    chosen = select(rows, apart(rows), limits)
    assert chosen.neg == [(0, 0), (0, 1)]
    assert chosen.pos == [(1, 5), (1, 6)]
    assert chosen.sent == [1]


def test_cur_12_thresholds_belong_to_a_model():
    PAPER.check_model("ViT-B-32-quickgelu/openai")
    with pytest.raises(UserError, match=r"ViT-B-32-quickgelu/openai.*ViT-L-14/openai"):
        PAPER.check_model("ViT-L-14/openai")
    Thresholds(32, 23, 27.5).check_model("ViT-L-14/openai")  # the user's own choice


def test_the_papers_numbers_are_the_papers_and_others_the_users():
    assert by_numbers(FixedThresholds()) is PAPER
    assert by_numbers(FixedThresholds(t1=20.0)) == Thresholds(32.0, 20.0, 27.5)
