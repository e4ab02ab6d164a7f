"""One blind session for all runs and settings, and its marks beside the captions that they are about."""

import dataclasses
import json

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.human import command, marks
from sare_jax.evaluation.human.agree import agree
from sare_jax.evaluation.human.audit import resume, whole_session
from sare_jax.evaluation.human.marks import HumanSettings, measure
from sare_jax.evaluation.human.session import draw
from sare_jax.evaluation.metrics.metric import AtHand
from sare_jax.language.words import coco_table
from sare_jax.records.annotations import Annotated, read_annotations, write_annotations
from sare_jax.records.brackets import parse
from sare_jax.records.coco import Truth
from sare_jax.records.texts import Dropped, match_captions

IDS = range(1, 9)
TRUTH = Truth(dict.fromkeys(IDS, ("dog",)), {}, {i: f"{i:03d}.png" for i in IDS}, coco_table(), "small")
ANSWERS = {
    ("efuf", "origin"): [(i, "A dog and a cat." if i % 2 else "A dog.") for i in IDS],
    ("sare", "origin"): [(i, "A dog." if i > 1 else "A kite.") for i in IDS],
    ("sare", "relearn"): [(i, "A dog\nand a kite.") for i in IDS],
}


def records(row):
    return [{"image_id": i, "image": TRUTH.files[i], "text": text} for i, text in ANSWERS[row]]


def drawn(size=0, seed=0, rows=tuple(ANSWERS)):
    return draw({row: records(row) for row in rows}, size, seed)


def annotated(text, image, done=True):
    caption, its_marks = parse(text)
    return Annotated(image, caption, its_marks, done)


def at_hand(row):
    captions = records(row)
    return AtHand(captions, match_captions(captions, TRUTH), TRUTH, {}, 20, 0)


def test_a_session_names_no_run_and_its_key_names_all():
    session, key = drawn()
    assert all(record.keys() == {"image", "caption"} for record in session)
    assert [(r["image"], r["caption"]) for r in key] == [(r["image"], r["caption"]) for r in session]
    given = sorted((row, record["image"], record["caption"]) for record in key for row in record["rows"])
    assert given == sorted((row, TRUTH.files[i], text) for row in ANSWERS for i, text in ANSWERS[row])
    shared = [record for record in key if len(record["rows"]) > 1]
    assert {record["image"] for record in shared} == {TRUTH.files[i] for i in (2, 4, 6, 8)}


def test_the_order_tells_nothing_of_runs_and_depends_on_the_seed():
    session, key = drawn()
    assert drawn(rows=tuple(reversed(ANSWERS)))[0] == session
    assert drawn(seed=1)[0] != session
    places = [n for n, record in enumerate(key) if ("sare", "relearn") in record["rows"]]
    assert places != sorted(range(len(key)))[: len(places)]
    assert max(places) - min(places) > len(places)


def test_all_rows_are_about_the_same_images_and_a_larger_sample_holds_a_smaller_one():
    small, key = drawn(3)
    by_row = {row: {r["image"] for r in key if row in r["rows"]} for row in ANSWERS}
    assert [len(images) for images in by_row.values()] == [3, 3, 3]
    assert len(set(map(frozenset, by_row.values()))) == 1
    assert {json.dumps(record) for record in small} <= {json.dumps(record) for record in drawn(5)[0]}


def test_marks_fill_every_row_that_gave_the_caption(tmp_path):
    items = [annotated("A {dog} and [a cat].", "001.png"), annotated("A {dog}.", "002.png")]
    items += [annotated("[A kite].", "001.png"), annotated("A {dog} and [a kite].", 4)]
    write_annotations(tmp_path / "marks.txt", items)
    settings = HumanSettings(marks=str(tmp_path / "marks.txt"))
    efuf = measure(at_hand(("efuf", "origin")), settings)
    assert (efuf["human_s"], efuf["human_i"]) == (50, pytest.approx(100 / 3))
    assert (efuf["n"], efuf["n_drawn"], efuf["n_objects"]) == (2, 3, 3)
    assert efuf["dropped"] == {"another caption was marked": {"count": 1, "which": ["4"]}}
    sare = measure(at_hand(("sare", "origin")), settings)
    assert (sare["human_s"], sare["human_i"], sare["n"]) == (50, 50, 2)
    relearnt = measure(at_hand(("sare", "relearn")), settings)  # the break of the line is no other caption
    assert (relearnt["human_s"], relearnt["n"], relearnt["n_drawn"]) == (100, 1, 3)


def test_a_session_in_part_says_how_much_was_marked(tmp_path):
    session, key = drawn(4)
    items = [dataclasses.replace(item, done=False) for item in whole_session(session, Dropped())]
    mine = next(n for n, record in enumerate(key) if ("efuf", "origin") in record["rows"])
    other = next(n for n, record in enumerate(key) if ("efuf", "origin") not in record["rows"])
    path = tmp_path / "marks.jsonl"
    settings = HumanSettings(marks=str(path))
    items[other] = annotated(items[other].caption.replace("dog", "{dog}").replace("kite", "[kite]"), "x")
    items[other] = dataclasses.replace(items[other], image=session[other]["image"])
    write_annotations(path, items)
    assert measure(at_hand(("efuf", "origin")), settings) == "not measured: none of the 4 captions is marked"
    items[mine] = dataclasses.replace(items[mine], done=True)
    write_annotations(path, items)
    found = measure(at_hand(("efuf", "origin")), settings)  # a caption without an object is no mistake
    assert (found["n"], found["n_drawn"], found["human_s"]) == (1, 4, 0)
    assert found["dropped"]["not finished"]["count"] == 3
    assert measure(at_hand(("efuf", "origin")), HumanSettings()) == "not measured"


def test_a_file_without_marks_is_refused_before_models_are_asked(tmp_path):
    with pytest.raises(UserError, match=r"config\.evaluate\.options\.human\.marks: gone: no such file"):
        marks.check(HumanSettings(marks="gone"))
    path = tmp_path / "marks.jsonl"
    write_annotations(path, whole_session(drawn()[0], Dropped()))
    with pytest.raises(UserError, match="no finished annotation"):
        marks.check(HumanSettings(marks=str(path)))
    assert marks.depends_on(HumanSettings()) is None
    assert marks.depends_on(HumanSettings(marks=str(path))) == marks.depends_on(
        HumanSettings(captions=7, marks=str(path))
    )


def test_marks_go_on_when_the_session_has_grown(tmp_path):
    path = tmp_path / "marks.jsonl"
    first = whole_session(drawn(rows=[("sare", "origin")])[0], Dropped())
    done = [dataclasses.replace(item, annotator="Ada", done=True) for item in first]
    write_annotations(path, done)
    grown = whole_session(drawn()[0], Dropped())
    items = resume(path, grown, "Ada")
    assert [item.key for item in items] == [item.key for item in grown]
    assert {item.key for item in items if item.done} == {item.key for item in done}
    with pytest.raises(UserError, match="holds other captions than --session"):
        resume(path, first[1:], "Ada")


def test_two_people_agree_on_captions_of_a_session():
    def of(*texts):
        return [annotated(text, image) for image, text in texts]

    ada = of(("1", "[a cat]"), ("1", "a {dog}"), ("2", "a {dog}"))
    bob = of(("1", "a [dog]"), ("1", "[a cat]"))
    bob.append(dataclasses.replace(annotated("a {dog}", "2"), done=False))
    found = agree(ada, bob)
    assert (found["n"], found["objects"]["confusion"]) == (2, [[0, 1], [0, 1]])
    assert {reason: entry["which"] for reason, entry in found["dropped"].items()} == {
        "not finished": ["2"],
        "only A has it": ["2"],
    }


def test_serve_takes_a_session_whole(tmp_path, monkeypatch, capsys):
    from sare_jax.evaluation.human.audit import Audit
    from sare_jax.evaluation.human.server import AuditServer
    from tests.evaluation.human.small_audit import write_images

    session = [
        {"image": f"COCO_val2014_{i:012d}.jpg", "caption": f"caption {n}"} for n, i in enumerate((11, 11, 12))
    ]
    path = tmp_path / "session.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in session))
    write_images(tmp_path / "images", (11, 12))
    out = tmp_path / "marks.jsonl"

    def mark(server: AuditServer) -> None:
        audit: Audit = server.audit
        version = audit.describe()["items"][1]["version"]
        audit.change(1, version, [], True)
        raise KeyboardInterrupt

    monkeypatch.setattr(AuditServer, "serve_forever", mark)
    command.main(
        [
            "serve",
            "--session",
            str(path),
            "--images",
            str(tmp_path / "images"),
            "--out",
            str(out),
            "--port",
            "0",
            "--no-browser",
        ]
    )
    assert "3 captions, 0 finished" in capsys.readouterr().out
    assert [item.caption for item in read_annotations(out)[0]] == ["caption 0", "caption 1", "caption 2"]
    assert [item.done for item in read_annotations(out)[0]] == [False, True, False]
