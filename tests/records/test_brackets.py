import random
import re

import pytest

from sare_jax.records.brackets import Mark, check, parse, render, words


def test_correct_and_hallucinated():
    text = "The image shows {a large airplane} in the {sky}. [The sun] shines."
    caption, marks = parse(text)
    assert caption == "The image shows a large airplane in the sky. The sun shines."
    assert [(caption[m.start : m.end], m.verdict) for m in marks] == [
        ("a large airplane", "correct"),
        ("sky", "correct"),
        ("The sun", "hallucinated"),
    ]
    assert render(caption, marks) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no object",
        "{cloud}s",
        "{a}[b]",
        "[whole]",
        "{long, curved wing}",
        r"C:\temp and \d",
        "é {ü😀} [日本]",
        r"\d{x}",
    ],
)
def test_lines_come_back_as_they_were(text):
    assert render(*parse(text)) == text


def test_brackets_of_the_text_itself_survive():
    caption = r"a sign [sic] with {x} and \[ and a \ "
    text = render(caption, [Mark(2, 6, "correct"), Mark(7, 12, "hallucinated")])
    assert text == r"a {sign} [\[sic\]] with \{x\} and \\\[ and a \ "
    assert parse(text) == (caption, (Mark(2, 6, "correct"), Mark(7, 12, "hallucinated")))


def test_any_caption_with_any_marks_comes_back():
    rng = random.Random(0)
    for _ in range(500):
        caption = "".join(rng.choices("ab {}[]\\é😀", k=rng.randrange(12)))
        count = rng.randrange(min(3, (len(caption) + 1) // 2) + 1)
        ends = sorted(rng.sample(range(len(caption) + 1), k=2 * count))
        verdicts = rng.choices(["correct", "hallucinated"], k=count)
        marks = tuple(map(Mark, ends[::2], ends[1::2], verdicts))
        assert parse(render(caption, marks)) == (caption, marks)


def test_line_breaks_become_spaces():
    assert render("a dog\n\r\nruns", [Mark(2, 5, "correct")]) == "a {dog}   runs"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a [dog", "'[' is not closed"),
        ("a dog]", "']' closes nothing"),
        ("a {dog]", "']' closes nothing"),
        ("a {big [dog]}", "'[' inside '{'"),
        ("a {} dog", "brackets around nothing"),
    ],
)
def test_brackets_that_do_not_match(text, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse(text)


@pytest.mark.parametrize(
    "marks",
    [
        [Mark(0, 3, "correct"), Mark(2, 5, "correct")],
        [Mark(3, 3, "correct")],
        [Mark(-1, 3, "correct")],
        [Mark(2, 6, "correct")],
        [Mark(0, 1, "wrong")],
    ],
)
def test_marks_that_do_not_fit(marks):
    with pytest.raises(ValueError, match=r"mark|verdict"):
        check("a dog", marks)


def test_words_without_punctuation():
    caption = "A man's well-lit café, (two) cups… 3 dogs."
    assert [caption[a:b] for a, b in words(caption)] == [
        *("A", "man's", "well-lit", "café", "two", "cups", "3", "dogs")
    ]


def test_the_lineages_file_comes_back_byte_for_byte(shared_data):
    content = (shared_data / "captions" / "minigpt4_annotated_30.txt").read_bytes()
    lines = content.decode().splitlines(keepends=True)
    assert len(lines) == 30
    rewritten = []
    for line in lines:
        image, text = line.rstrip("\n").split(" ### ", 1)
        caption, marks = parse(text)
        assert not set("{}[]") & set(caption)
        rewritten.append(f"{image} ### {render(caption, marks)}\n")
    assert "".join(rewritten).encode() == content
