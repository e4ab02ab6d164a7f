"""Half a call's answers, and a seal that says nothing: what cannot be trusted is answered again."""

import pytest

from sare_jax.inference.journal import Journal

ANSWERS = {index: {"text": f"t{index}", "finish_reason": "stop", "tokens": 2} for index in range(4)}
BATCHES = [[0, 1], [2, 3]]
JUNK = [
    b"",
    b"\xff\xfe",
    b"[1]",
    b"3.5\n",
    b"null",
    b'{"key": 1}',
    b'{"key": "key", "sha256": 1}',
    b"[" * 100_000,
]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.jsonl"


def half(out):
    journal = Journal(out, "key")
    assert journal.resume(BATCHES) == {}
    journal.append({index: ANSWERS[index] for index in BATCHES[0]})
    return out.with_name("out.jsonl.partial")


def test_whole_batches_are_kept_for_the_same_key_alone(out):
    half(out)
    assert Journal(out, "key").resume(BATCHES) == {index: ANSWERS[index] for index in BATCHES[0]}
    assert Journal(out, "other").resume(BATCHES) == {}


def test_a_changed_answer_is_given_again(out, caplog):
    partial = half(out)
    partial.write_bytes(partial.read_bytes().replace(b"t1", b"x1"))
    assert Journal(out, "key").resume(BATCHES) == {}
    assert "line 3 changed since it was written" in caplog.text


@pytest.mark.parametrize("junk", JUNK)
def test_whatever_stands_in_the_partial_file(out, junk):
    half(out).write_bytes(junk)
    journal = Journal(out, "key")
    assert journal.resume(BATCHES) == {}
    journal.append(ANSWERS)
    journal.finish([ANSWERS[0]])
    assert Journal(out, "key").whole() == [ANSWERS[0]]


def test_nothing_unfinished_is_left_by_a_call_that_was_killed_once_it_was_done(out, monkeypatch):
    partial, journal = half(out), Journal(out, "key")
    journal.resume(BATCHES)
    with monkeypatch.context() as patch:
        patch.setattr("sare_jax.inference.journal.files.remove", lambda path: None)  # killed before it
        journal.finish([ANSWERS[0]])
    assert partial.exists()
    assert Journal(out, "key").whole() == [ANSWERS[0]]
    assert not partial.exists()


@pytest.mark.parametrize("junk", JUNK)
def test_whatever_stands_in_the_seal(out, junk, caplog):
    half(out)
    journal = Journal(out, "key")
    journal.resume(BATCHES)
    journal.finish([ANSWERS[0]])
    seal = out.with_name(".out.jsonl.key")
    seal.write_bytes(junk)
    assert Journal(out, "key").whole() is None
    assert [message for message in caplog.messages if message.endswith("asked again")] == caplog.messages
    assert len(caplog.messages) == 1


def test_finished_answers_that_were_changed_are_asked_again(out, caplog):
    journal = Journal(out, "key")
    journal.resume(BATCHES)
    journal.finish([ANSWERS[0]])
    assert Journal(out, "other").whole() is None
    assert not caplog.messages
    out.write_bytes(out.read_bytes().replace(b"t0", b"x0"))
    assert Journal(out, "key").whole() is None
    assert caplog.messages == [f"{out}: changed since it was written; asked again"]
