from collections import Counter

import numpy as np
import pytest

from sare_jax.curation.calibrate import FEWEST, Audit, Labelled, choose, sample, told, wilson
from sare_jax.curation.captions import Caption
from sare_jax.curation.extraction import Scored
from sare_jax.curation.select import select
from sare_jax.curation.truth import Truth
from sare_jax.curation.units import Unit
from sare_jax.errors import UserError
from sare_jax.settings import AuditThresholds


def labelled(score, present, *, mean=None, caption=None) -> Labelled:
    score = np.array(score, np.float64)
    return Labelled(
        np.arange(len(score)) if caption is None else np.array(caption),
        score,
        score if mean is None else np.array(mean, np.float64),
        np.array(present, bool),
    )


def world(captions=300, objects=3, seed=0, *, apart=1.0):
    """Scored captions whose present objects score higher, and their truth; "o3" is of category "c3"."""
    rng = np.random.default_rng(seed)
    kept, categories = [], {}
    for c in range(captions):
        present = rng.random(objects) < 0.75
        scores = (25 + 3 * apart * present + 2 * rng.standard_normal(objects)).astype(np.float32)
        units = [Unit(f"o{o}", 10 * o, 10 * o + 9, 10 * o, 10 * o + 2) for o in range(objects)]
        kept.append(Scored(Caption(c, f"{c}.png", "x" * 10 * objects), units, Counter(), scores))
        categories[c] = frozenset(f"c{o}" for o in range(objects) if present[o])
    return kept, Truth(categories, lambda phrase: [f"c{phrase[1:]}"])


def test_the_largest_set_of_the_wanted_precision():
    score = np.arange(100.0)
    present = score >= 40
    present[[10, 20]] = True  # two of the low ones are there after all
    limits = labelled(score, present)
    assert choose("t1", limits, 0.95) == 39.5  # 38 of 40 are absent
    assert choose("t1", limits, 0.5) == 75.5  # 38 of 76
    assert choose("t0", limits, 1.0) == 39.5


def test_equal_scores_fall_on_one_side():
    score = [1.0] * 15 + [2.0] * 15 + [3.0] * 30
    present = [False] * 25 + [True] * 35
    assert choose("t1", labelled(score, present), 0.8) == 2.5
    with pytest.raises(UserError, match=r"p1 = 0\.9: no t1 .* the best is 83\.3 % of 30 labelled objects"):
        choose("t1", labelled(score, present), 0.9)  # the fifteen of score 1 are too few


def test_t2_counts_the_objects_of_the_captions_above_it():
    caption = np.repeat(np.arange(20), 3)
    mean = np.repeat(np.arange(20.0), 3)
    present = np.ones(60, bool)
    present[:15] = False  # the five captions of the lowest means
    limits = labelled(np.zeros(60), present, mean=mean, caption=caption)
    assert choose("t2", limits, 1.0) == 4.5
    assert choose("t2", limits, 45 / 48) == 3.5


def test_the_interval_is_wilsons():
    low, high = wilson(9, 10)  # by the formula of Wilson 1927, eq. (5)
    assert (low, high) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    assert wilson(0, 0) == (0, 1)
    assert wilson(20, 20)[1] == 1


def test_thresholds_reach_their_precision_on_captions_that_were_not_labelled():
    kept, truth = world(1500, apart=2.0)
    limits = Audit(truth, AuditThresholds(p0=0.95, p1=0.8, p2=0.85, objects=400)).thresholds(kept, "clip")
    assert limits.model == "clip"
    assert limits.chosen["how"].startswith("audit by 4")
    chosen = select([s.scores for s in kept], [[(u.start, u.end) for u in s.units] for s in kept], limits)
    for pairs, present, wanted in ((chosen.pos, True, 0.95), (chosen.neg, False, 0.8)):
        verdicts = [truth.verdict(kept[c].caption, kept[c].units[o]) for c, o in pairs]
        assert np.mean([v is present for v in verdicts]) == pytest.approx(wanted, abs=0.05)
    for name in ("t0", "t1", "t2"):
        entry = limits.chosen[name]
        assert entry["right"] / entry["size"] >= entry["wanted"]
        assert entry["low"] < entry["held_out_right"] / entry["held_out_size"] < entry["high"]
        assert entry["held_out_parts"] == 5
    assert len(told(limits)) == 3
    assert "95 % interval" in told(limits)[0]


def test_the_draw_is_seeded_and_takes_whole_captions():
    kept, truth = world()
    first, same, other = (sample(kept, truth, 100, seed) for seed in (0, 0, 1))
    assert len(first.score) == 102  # 34 captions of three objects
    np.testing.assert_array_equal(first.score, same.score)
    assert first.score.tolist() != other.score.tolist()
    assert len(sample(kept, truth, 10**6, 0).score) == 900


def test_limits_that_cross_are_put_in_order():
    kept, truth = world(apart=0.3)
    limits = Audit(truth, AuditThresholds(p0=0.7, p1=0.2, p2=0.7)).thresholds(kept, "clip")
    assert limits.t0 == limits.t1
    assert limits.chosen["t0_raised_to_t1"]


def test_impossible_targets_and_too_few_labels_are_refused():
    kept, truth = world(apart=0.0)
    with pytest.raises(
        UserError, match=r"curate\.thresholds\.p1 = 0\.99: no t1 gives .* the best is \d+\.\d %"
    ):
        Audit(truth, AuditThresholds(p0=0.5, p1=0.99)).thresholds(kept, "clip")
    with pytest.raises(UserError, match=rf"6 labelled objects .* at least {2 * FEWEST}"):
        Audit(truth, AuditThresholds()).thresholds(kept[:2], "clip")
    with pytest.raises(UserError, match="0 labelled objects"):
        Audit(Truth({}, lambda phrase: []), AuditThresholds()).thresholds(kept, "clip")
