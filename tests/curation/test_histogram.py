import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from sare_jax.curation import histogram
from sare_jax.curation.truth import Truth
from sare_jax.errors import UserError
from tests.curation.test_calibrate import world

LIMITS = {"T1": 24.5, "T0": 27.25}


def test_scores_are_sorted_by_truth():
    kept, truth = world(50)
    scores, present = histogram.judged_scores(kept, truth)
    assert len(scores) == 150
    assert present[:3].tolist() == [f"c{o}" in truth.categories[0] for o in range(3)]
    assert scores[:3].tolist() == kept[0].scores.tolist()
    line = histogram.described(scores, present)
    assert f"grounded: {present.sum()} objects, mean {scores[present].mean():.2f}" in line
    assert "AUC 0.8" in line


@pytest.mark.parametrize("suffix", histogram.FORMATS)
def test_figures_are_files_of_their_kind(tmp_path, suffix):
    scores, present = histogram.judged_scores(*world(50))
    path = tmp_path / f"h{suffix}"
    histogram.draw(scores, present, path, model="a/clip", limits=LIMITS)
    if suffix == ".png":
        assert np.asarray(Image.open(path).convert("L")).std() > 10
    if suffix == ".svg":
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
        first = path.read_bytes()
        histogram.draw(scores, present, path, model="a/clip", limits=LIMITS)
        assert path.read_bytes() == first
    assert path.stat().st_size > 1000
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_drawn_is_said(tmp_path):
    kept, truth = world(20)
    with pytest.raises(UserError, match=r"h\.bmp: the figure's name must end in \.svg, \.png, \.pdf"):
        histogram.draw(*histogram.judged_scores(kept, truth), tmp_path / "h.bmp", model="m", limits={})
    nothing = Truth({c: frozenset() for c in range(20)}, truth.categories_of)
    with pytest.raises(UserError, match="finds 0 objects in their images and 60 not"):
        histogram.judged_scores(kept, nothing)
    with pytest.raises(UserError, match="finds 0 objects in their images and 0 not"):
        histogram.judged_scores(kept, Truth({}, lambda phrase: []))
