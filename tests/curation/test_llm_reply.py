import pytest

from sare_jax.curation.llm_reply import find_names, names_in
from sare_jax.llm.replies import UnreadableError


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ("dog, cat", ["dog", "cat"]),
        ("The objects are: dog, cat (brown), c++", ["dog", "cat", "c++"]),
        ("Sure! Here are the things, as asked: a dog; the cat.", ["dog", "cat"]),
        ("**Things:** dog, hot dog", ["dog", "hot dog"]),
        ("1. dog\n2. two red cats\n", ["dog", "red cats"]),
        ("- dog\n- cat", ["dog", "cat"]),
        ('```json\n["dog", "cat"]\n```', ["dog", "cat"]),
        ("a clock at 10:30, wall", ["clock at 10:30", "wall"]),
        ("dog, Dog, DOG, cat", ["DOG", "cat"]),
        ("girl, dog\n\nText: A boy and a kite.\nThings: boy, kite", ["girl", "dog"]),
        ("girl, dog\nNote: the mood is left out", ["girl", "dog"]),
        ("<think>dog? no: cat</think> bird", ["bird"]),
        ("none", []),
        ("None.", []),
        ("There are no concrete things in the text.", []),
    ],
)
def test_cur_05_names_are_read_out_of_the_prose_around_them(reply, names):
    assert names_in(reply) == names


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I'm sorry, I can't", "refused"),
        ("I am very sorry, but dog, cat", "refused"),
        ("Unfortunately, I cannot help with that.", "refused"),
        ("As an AI language model, I have no eyes.", "refused"),
        ("", "empty reply"),
        ("``` ```", "empty reply"),
        ("<think>dog, cat", "unfinished reasoning"),
    ],
)
def test_cur_05_a_refusal_is_a_failure_and_not_zero_objects(reply, reason):
    with pytest.raises(UnreadableError, match=f"^{reason}$"):
        names_in(reply)


def test_cur_05_signs_of_regular_expressions_are_only_signs():
    found = find_names("A c++ book (old) and a dog.", ["c++", "dog", "(old", "d.g"])
    assert [m.text for m in found.mentions] == ["c++", "old", "dog"]
    assert found.left_out == {"not_in_caption": 1}


def test_cur_06_only_what_the_caption_says_in_its_own_form():
    caption = "Two Dogs run."
    found = find_names(caption, ["dog", "frisbee"])
    assert [(caption[m.start : m.end], m.start, m.end, m.head) for m in found.mentions] == [
        ("Dogs", 4, 8, "dog")
    ]
    assert found.left_out == {"not_in_caption": 1}


def spans(caption, *names):
    return [caption[m.start : m.end] for m in find_names(caption, names).mentions]


def test_whole_words_every_mention_longer_names_first():
    assert spans("A cat sleeps on a catapult; the CATS wake.", "cat") == ["cat", "CATS"]
    assert spans("A dining table and a table.", "table", "dining table") == ["dining table", "table"]
    assert find_names("A dining table.", ["table", "dining table"]).left_out == {"covered_by_another_name": 1}
    assert spans("The man's dog's bowl, children's t-shirts", "man", "dog", "child", "t-shirt") == [
        *("man", "dog", "children", "t-shirts")
    ]
    assert spans("salt and pepper shakers, a dog and a cat", "salt and pepper shakers", "dog and cat") == [
        *("salt and pepper shakers", "dog", "cat")
    ]
    assert spans("A hot\n dog", "hot dog") == ["hot\n dog"]
    assert find_names("A hot\n dog", ["Hot Dog"]).mentions[0].text == "hot dog"


@pytest.mark.parametrize("caption", ["", "  ", "... !!! ---", "[[]]"])
def test_captions_without_words(caption):
    assert find_names(caption, ["dog", "..."]).mentions == ()
