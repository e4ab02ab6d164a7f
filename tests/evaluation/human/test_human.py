import json
import subprocess
import sys

import pytest
from nltk.metrics.agreement import AnnotationTask

from sare_jax.errors import UserError
from sare_jax.evaluation.human.agree import agree
from sare_jax.evaluation.human.command import main
from sare_jax.evaluation.human.score import score
from sare_jax.records.annotations import Annotated, read_annotations, write_annotations
from sare_jax.records.brackets import Mark, parse


def annotated(image, text, done=True, annotator=""):
    caption, marks = parse(text)
    return Annotated(image, caption, marks, done, annotator)


# Files


def test_the_lineages_file_is_read_scored_and_written_back(shared_data, tmp_path, capsys):
    source = shared_data / "captions" / "minigpt4_annotated_30.txt"
    content = source.read_text()
    lines = content.splitlines()
    main(["score", "--annotations", str(source), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["n"] == len(lines) == 30
    assert result["n_hallucinated"] == sum("[" in line for line in lines)
    assert result["n_objects_hallucinated"] == content.count("[")
    assert result["n_objects"] == content.count("[") + content.count("{")
    assert result["human_s"] == pytest.approx(100 * 19 / 30)
    assert result["human_i"] == pytest.approx(100 * 58 / 228)
    kept, back = tmp_path / "kept.jsonl", tmp_path / "back.txt"
    main(["convert", str(source), str(kept)])
    main(["convert", str(kept), str(back)])
    assert back.read_bytes() == source.read_bytes()


def test_what_cannot_be_used_is_left_out_by_reason(tmp_path):
    path = tmp_path / "a.jsonl"
    records = [
        {"image_id": 1, "caption": "a dog", "marks": [{"start": 2, "end": 5, "verdict": "correct"}]},
        {"image_id": 2, "caption": None},
        {"caption": "a dog"},
        {"image_id": float("nan"), "caption": "a dog"},
        {"image_id": 3, "caption": "a dog", "marks": [{"start": 2, "end": 9, "verdict": "correct"}]},
        {"image_id": 4, "caption": "a dog", "marks": [{"start": 2.0, "end": 5, "verdict": "correct"}]},
        {"image_id": 5, "caption": "a dog", "marks": [{"start": 2, "end": 5}]},
        {"image_id": 6, "caption": "a [dog"},
        {"image_id": "1", "caption": "a dog", "marks": [{"start": 2, "end": 5, "verdict": "correct"}]},
        {"image_id": 7, "caption": "a cat", "marks": [], "done": False},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + '{"image_id": 8, "capt')
    items, dropped = read_annotations(path)
    assert [item.image for item in items] == [1, 7]
    assert {reason: len(places) for reason, places in dropped.items()} == {
        "half-written last line": 1,
        "caption is no text": 1,
        "no image id": 2,
        "marks that do not fit": 3,
        "brackets that do not match": 1,
        "repeated": 1,
    }
    result = score(items, dropped=dropped)
    assert (result["n"], result["skipped"]) == (1, 10)
    assert result["dropped"]["not finished"] == {"count": 1, "which": ["7"]}


def test_two_annotations_of_one_image_are_an_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("7.jpg ### a {dog}\n7.jpg ### a [dog]\n")
    with pytest.raises(UserError, match=r"a\.txt: more than one annotation of 7\.jpg"):
        read_annotations(path)


def test_brackets_hold_finished_captions_only(tmp_path):
    path = tmp_path / "a.txt"
    write_annotations(path, [annotated(1, "a {dog}"), annotated(2, "a [cat]", done=False)])
    assert path.read_text() == "1 ### a {dog}\n"


# Scores


def test_rates_and_their_denominators():
    items = [annotated(1, "{a dog} and [a cat] by [a cat]"), annotated(2, "{a cup}"), annotated(3, "a mood")]
    result = score(items)
    assert result["human_s"] == pytest.approx(100 / 3)
    assert result["human_i"] == pytest.approx(100 * 2 / 4)
    assert (result["n"], result["n_hallucinated"], result["n_no_object"]) == (3, 1, 1)
    assert (result["n_objects"], result["n_objects_hallucinated"]) == (4, 2)
    assert result["mean_words"] == pytest.approx((8 + 2 + 2) / 3)
    assert result["per_image"]["objects_hallucinated"] == [2, 0, 0]
    low, high = result["intervals"]["human_s"]
    assert 0 <= low < 100 / 3 < high <= 100


def test_order_does_not_change_a_score():
    items = [annotated(i, "{a dog} [a cat]" if i % 3 else "{a dog}") for i in range(12)]
    forth, back = score(items), score(items[::-1])
    assert [forth[name] for name in ("human_s", "human_i")] == [back[name] for name in ("human_s", "human_i")]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], r"no finished annotation \(nothing read\)"),
        ([annotated(1, "{a dog}", done=False)], r"no finished annotation \(not finished: 1\)"),
        ([annotated(1, "a dog"), annotated(2, "a cat")], "not one object is marked in 2 captions"),
    ],
)
def test_no_silent_zero(items, message):
    with pytest.raises(UserError, match=message):
        score(items)


def test_the_table_and_the_exit_status(tmp_path, capsys):
    path = tmp_path / "a.txt"
    path.write_text("1 ### {a dog} [a cat]\n2 ### {a cup}\n")
    main(["score", "--annotations", str(path)])
    out = capsys.readouterr().out
    assert "human_s         50.000   95 %" in out
    assert "human_s: 1 of 2 captions; human_i: 1 of 3 objects; 0 captions without an object" in out
    command = [
        sys.executable,
        "-m",
        "sare_jax.evaluation",
        "human",
        "score",
        "--annotations",
        "nowhere.jsonl",
    ]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: nowhere.jsonl: ")
    assert ended.stderr.count("\n") == 1


def test_starts_without_jax_and_torch():
    code = (
        "import sys, time, sare_jax.evaluation.human.command\n"
        "print(sorted({'jax', 'torch', 'flax'} & set(sys.modules)), time.process_time() < 2)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["[]", "True"]


# Agreement

A = [
    annotated(1, "{a dog} and [a cat] by {the sea} under the {sky}"),
    annotated(2, "[two cups] on {a table}"),
    annotated(3, "{a man} in a mood"),
    annotated(4, "[a bus] and [a car]"),
]
B = [
    annotated(1, "a {dog} and {a cat} by [the sea] under {the sky}"),
    annotated(2, "[two cups] on [a table]"),
    annotated(3, "{a man} in [a mood]"),
    annotated(4, "[a bus] and a car"),
]


def kappa_of(pairs):
    """The library's value."""
    data = [
        (who, number, label)
        for number, pair in enumerate(pairs)
        for who, label in zip("ab", pair, strict=True)
    ]
    return AnnotationTask(data=data).kappa()


def test_kappa_over_objects_words_and_captions_is_the_librarys():
    result = agree(A, B)
    c, h, u = "correct", "hallucinated", "unmarked"
    objects = [(c, c), (h, c), (c, h), (c, c), (h, h), (c, h), (c, c), (h, h)]
    assert result["objects"]["n"] == len(objects)
    assert result["objects"]["kappa"] == pytest.approx(kappa_of(objects))
    assert result["objects"]["agreement"] == pytest.approx(5 / 8)
    assert result["objects"]["confusion"] == [[3, 2], [1, 2]]
    assert (result["objects"]["only_a"], result["objects"]["only_b"]) == (1, 1)
    words = [(c, u), (c, c), (u, u), (h, c), (h, c), (u, u), (c, h), (c, h), (u, u), (u, c), (c, c)]
    words += [(h, h), (h, h), (u, u), (c, h), (c, h), (c, c), (c, c), (u, u), (u, h), (u, h)]
    words += [(h, h), (h, h), (u, u), (h, u), (h, u)]
    assert result["words"]["n"] == len(words)
    assert result["words"]["kappa"] == pytest.approx(kappa_of(words))
    captions = [(h, h), (h, h), (u, h), (h, h)]
    assert result["captions"]["agreement"] == 0.75
    assert result["captions"]["kappa"] == pytest.approx(kappa_of(captions)) == 0
    low, high = result["intervals"]["objects"]
    assert -1 <= low < result["objects"]["kappa"] < high <= 1


def test_agreement_is_symmetric_and_whole_with_oneself():
    forth, back = agree(A, B), agree(B, A)
    for unit in ("objects", "words", "captions"):
        assert forth[unit]["kappa"] == pytest.approx(back[unit]["kappa"])
        assert agree(A, A)[unit]["kappa"] == 1
    assert forth["objects"]["only_a"] == back["objects"]["only_b"]


def test_the_pairs_that_share_most_are_taken_first():
    whole = [annotated(1, "[a big red bus] {stop}")]
    parts = [annotated(1, "{a} [big red] [bus stop]")]
    result = agree(whole, parts)
    assert result["objects"]["confusion"] == [
        [0, 1],
        [0, 1],
    ]  # stop with bus stop; a big red bus with big red
    assert (result["objects"]["only_a"], result["objects"]["only_b"]) == (0, 1)


def test_kappa_is_not_defined_where_both_use_one_class():
    result = agree([annotated(1, "{a dog}")], [annotated(1, "{a dog}")])
    assert result["objects"] | {"kappa": None, "agreement": 1.0} == result["objects"]
    assert "objects" not in result["intervals"]
    no_pair = agree([annotated(1, "{a} dog")], [annotated(1, "a {dog}")])["objects"]
    assert (no_pair["kappa"], no_pair["agreement"], no_pair["n"]) == (None, None, 0)
    json.dumps(result, allow_nan=False)


def test_captions_of_one_annotator_only_are_named():
    second = [
        *B[:2],
        annotated(3, "{a man} in another mood"),
        annotated(9, "{a dog}"),
        annotated(4, "a", done=False),
    ]
    result = agree(A, second)
    assert result["n"] == 2
    assert {reason: entry["which"] for reason, entry in result["dropped"].items()} == {
        "not finished": ["4"],
        "captions differ": ["3"],
        "only A has it": ["4"],
        "only B has it": ["9"],
    }
    with pytest.raises(
        UserError, match=r"no caption that both have finished \(only A has it: 1, only B has it: 1\)"
    ):
        agree(A[:1], B[1:2])


def test_the_agreement_table(tmp_path, capsys):
    paths = [tmp_path / "a.txt", tmp_path / "b.jsonl"]
    for path, items in zip(paths, (A, B), strict=True):
        write_annotations(path, items)
    main(["agree", *map(str, paths)])
    out = capsys.readouterr().out
    assert "AGREEMENT   n = 4 captions" in out
    assert "raw agreement 0.625   n = 8" in out
    assert "objects that only A marked: 1; only B: 1" in out
    main(["agree", *map(str, paths), "--json"])
    assert json.loads(capsys.readouterr().out)["objects"]["n"] == 8


def test_marks_keep_their_text_for_readers(tmp_path):
    path = tmp_path / "a.jsonl"
    write_annotations(path, [annotated("x.jpg", "😀 {a dog}", annotator="Ada")])
    assert json.loads(path.read_text()) == {
        "image_id": "x.jpg",
        "caption": "😀 a dog",
        "marks": [{"start": 2, "end": 7, "verdict": "correct", "text": "a dog"}],
        "done": True,
        "annotator": "Ada",
    }
    assert read_annotations(path)[0] == [
        Annotated("x.jpg", "😀 a dog", (Mark(2, 7, "correct"),), True, "Ada")
    ]
