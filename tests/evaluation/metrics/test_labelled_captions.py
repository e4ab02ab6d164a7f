"""CHAIR against captions that were labelled by reading them, before the scorer was run on them.

Each line of labelled_captions.jsonl holds what a reader takes for claims that one of the 80 categories is
in the picture, in order, and why. Where the scorer differs, the line names the rule behind it (`differs`; the
rules stand in the docstring of `words.categories_in`) and what the scorer finds. Captions of a real model are
named by image id and hash; their text is not part of the project.
"""

import hashlib
import json
from pathlib import Path

import pytest

from sare_jax.evaluation.metrics import chair
from sare_jax.language.words import categories_in
from sare_jax.records.coco import read_truth
from sare_jax.records.texts import read_records
from tests.evaluation.small_worlds import truth_of

ROWS = [
    json.loads(line) for line in Path(__file__).with_name("labelled_captions.jsonl").open(encoding="utf-8")
]
OWN = [row for row in ROWS if "caption" in row]
REAL = [row for row in ROWS if "image_id" in row]
RULES = ("vocabulary", "each word", "no reading")


def labels(row) -> list[tuple[str, str]]:
    """The words and categories that the reader found; the words are empty for captions that are not here."""
    pairs = [entry.partition("=") for entry in row["objects"]]
    return [(word, category) if sign else ("", word) for word, sign, category in pairs]


@pytest.mark.parametrize("row", OWN, ids=range(1, len(OWN) + 1))
def test_own_captions(row):
    found = categories_in(row["caption"])
    if "differs" in row:
        assert [mention.category for mention in found] == row["scorer"]
        return
    expected = labels(row)
    assert [mention.category for mention in found] == [category for _, category in expected]
    for mention, (words, _) in zip(found, expected, strict=True):
        assert row["caption"][mention.start : mention.end] in words


def test_there_are_enough_and_every_difference_has_a_rule():
    assert len(OWN) >= 60
    assert all(row["reason"] for row in ROWS)
    differing = [row for row in ROWS if "differs" in row]
    assert {rule for row in differing for rule in row["differs"]} == set(RULES)
    for row in differing:
        assert row["scorer"] != [category for _, category in labels(row)], row
    assert all(rule in categories_in.__doc__ for rule in RULES)


def test_score_of_the_labels_is_the_score_of_the_captions(tmp_path):
    """The three numbers counted from the labels by their definitions, where reader and scorer agree."""
    rows = [row for row in OWN if "differs" not in row]
    mentions, invented, words, words_invented, captions_invented = 0, 0, 0, 0, 0
    for row in rows:
        named = [category for _, category in labels(row)]
        absent = [category for category in named if category not in row["truth"]]
        mentions, invented = mentions + len(named), invented + len(absent)
        captions_invented += bool(absent)
        # No caption of these calls one category by two words but for the two of one word in two forms.
        distinct = {(category, word_of(row, category, place)) for place, category in enumerate(named)}
        words += len(distinct)
        words_invented += sum(category not in row["truth"] for category, _ in distinct)
    truth = truth_of(tmp_path, dict(enumerate(row["truth"] for row in rows)))
    result = chair.score(
        [{"image_id": i, "caption": r["caption"]} for i, r in enumerate(rows)], truth, draws=2
    )
    assert result["chair_s"] == pytest.approx(100 * captions_invented / len(rows))
    assert result["chair_i"] == pytest.approx(100 * invented / mentions)
    assert result["chair_i_words"] == pytest.approx(100 * words_invented / words)


def word_of(row, category, place) -> str:
    """The reader's word in the singular, by hand: plurals of these captions end in s, or are listed."""
    word = labels(row)[place][0].lower()
    irregular = {"buses": "bus", "knives": "knife", "men": "man", "women": "woman"}
    plain = word.split()[-1] if category in ("elephant", "bear", "bird", "train") else word
    return irregular.get(
        plain, plain.removesuffix("s") if plain not in ("bus", "scissors", "skis") else plain
    )


def test_captions_of_a_real_model(shared_data):
    captions, _ = read_records(shared_data / "captions" / "llava15_greedy.jsonl")
    texts = {record["image_id"]: record["caption"] for record in captions}
    truth = read_truth(shared_data / "coco_gt_categories.json")
    agreeing = 0
    for row in REAL:
        text = texts[row["image_id"]]
        assert hashlib.sha256(text.encode()).hexdigest().startswith(row["sha256"])
        found = [item.category for item in chair.explain(text, truth.categories(row["image_id"]))]
        assert found == row.get("scorer", row["objects"]), row["image_id"]
        agreeing += "differs" not in row
    assert (len(REAL), agreeing) == (20, 13)
