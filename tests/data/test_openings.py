"""Openings on sentences written for them, on real captions, and among the tokens of the demo's model."""

import json

import pytest

from sare_jax.curation.objects import spacy_extractor
from sare_jax.data.openings import all_openings, first_tokens, mentions, openings, token_places, vocabulary
from tests import tiny_training as tiny

CAPTIONS = [
    "A man holds an apple, and a small brown dog eats a hot dog.",
    "A bus stops. Two dogs and a man wait by an old bus, near a dog.",
    "An umbrella leans on a table, a dog sleeps, the man reads to a dog.",
    "A dog, an apple. A dog, an umbrella.",
]
PHRASES = ["man", "apple", "small brown dog", "dog", "dogs", "hot dog", "bus", "old bus", "umbrella", "table"]


def found(caption, words):
    return [
        (caption[q.start : q.name], caption[q.name : q.end], words.names[q.object])
        for q in all_openings(caption, words)
    ]


@pytest.fixture(scope="module")
def words():
    return vocabulary(CAPTIONS, PHRASES)


def test_names_are_heads_but_for_phrases_that_are_names(words):
    assert words.names == ("dog", "apple", "bus", "man", "umbrella", "hot dog", "table")
    assert dict(zip(words.names, words.articles, strict=True)) == {
        "dog": "a",
        "apple": "an",
        "bus": "a",
        "man": "a",
        "umbrella": "an",
        "hot dog": "a",
        "table": "a",
    }


def test_the_most_frequent_alone_and_what_is_left_out_hides_what_is_in_it():
    few = vocabulary(CAPTIONS, PHRASES, most=2)
    assert few.names == ("dog", "apple")
    # "hot dog" is no longer a name, and still no dog.
    assert [few.names[m.object] for m in mentions(CAPTIONS[0], few)] == ["apple", "dog"]


def test_openings_hold_article_and_adjectives(words):
    assert found(CAPTIONS[0], words) == [
        ("A ", "man", "man"),
        ("an ", "apple", "apple"),
        ("a small brown ", "dog", "dog"),
        ("a ", "hot dog", "hot dog"),
    ]


def test_plurals_and_definite_articles_open_nothing_and_count_as_named(words):
    caption = CAPTIONS[1]
    assert found(caption, words) == [
        ("A ", "bus", "bus"),
        ("a ", "man", "man"),
        ("an old ", "bus", "bus"),
        ("a ", "dog", "dog"),
    ]
    first, man, bus, dog = all_openings(caption, words)
    assert first.choices == (), "a caption has to name something"
    assert [words.names[number] for number in man.choices] == ["man", "hot dog", "table"]
    assert {words.names[number] for number in bus.choices} == {"apple", "umbrella", "hot dog", "table"}
    assert words.names[dog.object] not in {words.names[number] for number in dog.choices}


def test_only_names_of_the_same_article_are_choices_right_behind_it(words):
    apple, dog, _ = openings(CAPTIONS[0], words)
    assert [words.names[number] for number in apple.choices] == ["apple", "umbrella"]
    # Behind an adjective any name fits.
    assert [words.names[number] for number in dog.choices] == ["dog", "bus", "umbrella", "hot dog", "table"]


def test_an_article_that_the_captions_never_show_goes_by_the_letter():
    words = vocabulary(
        ["a cat. a wet otter. an hour.", "a cat. an hour"], ["cat", "wet otter", "otter", "hour"]
    )
    assert dict(zip(words.names, words.articles, strict=True)) == {"cat": "a", "hour": "an", "otter": "an"}


def test_nothing_to_be_found():
    words = vocabulary(["", "No things."], ["things"])
    assert len(words) == 0
    assert openings("A thing.", words) == []


def test_places_among_tokens():
    caption = "a bus, a man with a red hat."
    words = vocabulary([caption], ["bus", "man", "red hat", "hat"])
    tokens, places = token_places(all_openings(caption, words), caption, tiny.Letters(), "0.png", "say")
    text = "".join((tiny.LETTERS + "####")[token] for token in tokens)
    assert tokens[-1] == tiny.EOS
    assert [text[start:name] for start, name in places] == ["a ", "a ", "a red "]
    assert [text[name : name + 3] for _, name in places] == ["bus", "man", "hat"]
    assert [tiny.LETTERS[t] for t in first_tokens(words, tiny.Letters(), "0.png", "say")] == ["b", "h", "m"]


def test_captions_of_a_real_model(shared_data):
    lines = (shared_data / "captions" / "llava15_greedy.jsonl").read_text().splitlines()[:120]
    captions = [json.loads(line)["caption"] for line in lines]
    phrases = [m.text for of_one in spacy_extractor().find(captions) for m in of_one.mentions]
    words = vocabulary(captions, phrases)
    assert {"man", "dining table", "chair", "bench"} <= set(words.names[:30])
    assert set(words.articles) == {"a", "an"}
    count = 0
    for caption in captions:
        for opening in openings(caption, words):
            before = caption[opening.start : opening.name].lower().split()
            assert before[0] in ("a", "an")
            assert (
                len(before) > 1
                or opening.object not in opening.choices
                or words.articles[opening.object] == before[0]
            )
            assert caption[opening.name : opening.end].lower().split() == words.names[opening.object].split()
            count += 1
    assert count > 2 * len(captions)
    first = [(before, name) for before, name, _ in found(captions[0], words)]
    assert first[:4] == [("a ", "woman"), ("a ", "dining table"), ("a delicious ", "pizza"), ("a ", "plate")]
