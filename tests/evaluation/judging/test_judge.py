import asyncio
import email.utils
import json
import time

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.judging.judge import Judge
from sare_jax.evaluation.judging.parse import read_score
from sare_jax.llm.asking import GIVE_UP
from sare_jax.llm.blanking import without_key
from sare_jax.llm.client import Endpoint, is_local, read_key
from sare_jax.llm.replies import UnreadableError
from tests.evaluation.judging.judge_server import (
    JudgeServer,
    breaks_off,
    document,
    drips,
    says,
    sends,
    sleeps,
)

KEY = "sk-not-a-real-key-1234"


def make_judge(server, folder, *, parallel=1, **options) -> Judge:
    options = {"timeout": 5.0, "first_wait": 0.01, "waits": 2} | options
    return Judge(Endpoint(server.base_url, "judge-1", KEY, **options), folder, read_score, parallel)


def reason_of(text: str, scale: int = 100) -> str:
    with pytest.raises(UnreadableError) as caught:
        read_score(text, scale)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '```json {"score": 90}```',
        "Here: {'score': 90}",
        '```json\n{"score": "90", "reason": "names {both} dogs, 3 cats"}\n```',
        'The result: {"result": {"Score": 90.0}}',
        '{"detail": {"dogs": 3}, "coverage": 90}',
    ],
)
def test_ju_01_json_in_a_fence_or_in_prose(text):
    assert read_score(text) == 90


@pytest.mark.parametrize(
    "text", ['maybe 20</think>{"score":90}', "<think>20 or 30?</think>\n\nAnswer: The coverage is 90"]
)
def test_ju_03_only_what_follows_the_reasoning(text):
    assert read_score(text) == 90


@pytest.mark.parametrize(
    "text", ["<think>20", "<think>a</think> wait <think>Score: 20", "<Thinking>Answer: The coverage is 20"]
)
def test_ju_03_reasoning_that_does_not_end_is_a_failure(text):
    assert reason_of(text) == "unfinished reasoning"


def test_ju_06_not_the_first_number():
    assert read_score("The image has 3 dogs. Score: 85") == 85
    assert reason_of("8/10") == "another scale"
    assert read_score("8/10", scale=10) == 80
    assert reason_of("9000") == "out of range"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("85", 85),
        ("85.", 85),
        ("85%", 85),
        ("85/100", 85),
        ("Answer: The coverage is 85", 85),
        ("**Answer:** The coverage is **85**.", 85),
        ("Answer: The coverage is <85>", 85),
        ("The coverage is 85 out of 100.", 85),
        ("Score: 85. It misses 3 of the 20 objects.", 85),
        ("The coverage of dogs is 3. Answer: The coverage is 70", 70),
        ("Answer: The coverage is 1", 1),
        ("Answer: The coverage is 100", 100),
    ],
)
def test_answers_that_can_be_read(text, score):
    assert read_score(text) == score


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty reply"),
        (" \n", "empty reply"),
        ("I'm sorry, I can't help with that.", "refused"),
        ("I cannot rate these 2", "refused"),
        ("It covers most of it.", "no number"),
        ("It names 3 objects", "no labelled number"),
        ("between 80 and 90", "several numbers"),
        ("Score: 80-90", "several numbers"),
        ("Score: 80 or 90", "several numbers"),
        ("Coverage: 80. Score: 85", "several numbers"),
        ('{"score": 80} {"score": 90}', "several numbers"),
        ("Score: 1e9", "several numbers"),
        ("0", "out of range"),
        ("Answer: The coverage is 101", "out of range"),
        ("Score: -5", "out of range"),
        ("9,000", "out of range"),
        ('{"score": NaN}', "out of range"),
        ('{"score": true}', "no number"),
        ('{"score": null}', "no number"),
        ("Answer: The coverage is 3 of the 5", "another scale"),
        ('{"score": 9', "cut off"),
    ],
)
def test_answers_that_cannot_be_read_fail_with_a_reason(text, reason):
    assert reason_of(text) == reason


def test_a_percentage_is_of_a_hundred():
    assert reason_of("80%", scale=10) == "another scale"
    assert reason_of("80", scale=10) == "out of range"


def test_ju_04_only_a_record_that_lacks_its_score_is_asked_again(tmp_path):
    prompts = ["one", "two", "three"]
    with JudgeServer() as server:
        judge = make_judge(server, tmp_path)
        judge.ask_all(prompts)
        assert len(server.asked) == 3
        place = judge._place("two")
        entry = json.loads(place.read_text())
        whole = dict(entry)
        del entry["value"]
        place.write_text(json.dumps(entry))
        verdicts = judge.ask_all(prompts)
        assert len(server.asked) == 4
        assert server.asked[-1]["messages"][0]["content"] == "two"
    assert [verdict.value for verdict in verdicts] == [50, 50, 50]
    assert json.loads(place.read_text()) == whole
    place.write_text('{"url": "http')  # half-written
    assert judge.kept("two") is None


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (says('{"score": 9'), "cut off"),
        (says("Answer: The coverage is 8", finish_reason="length"), "cut off"),
        (says("I'm sorry, I can't."), "refused"),
    ],
)
def test_ju_05_three_tries_then_failed_and_the_run_goes_on(tmp_path, act, reason):
    with JudgeServer(act, act, act) as server:
        first, second = make_judge(server, tmp_path).ask_all(["one", "two"])
        assert len(server.asked) == 4
    assert (first.value, first.reason) == (None, reason)
    assert (first.prompt_tokens, first.completion_tokens) == (300, 21)
    assert second.value == 50


@pytest.mark.parametrize("hang", [sleeps(2.0, says("Score: 1")), drips], ids=["silent", "dripping"])
def test_ju_05_a_hanging_server(tmp_path, hang):
    with JudgeServer(hang, hang, hang) as server:
        judge = make_judge(server, tmp_path, timeout=0.15)
        started = time.monotonic()
        first, second = judge.ask_all(["one", "two"])
        assert time.monotonic() - started < 1.5
        assert len(server.asked) == 4
    assert (first.value, first.reason, second.value) == (None, "no reply in time", 50)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (sends(500, "oops"), "HTTP 500"),
        (sends(503, ""), "HTTP 503"),
        (sends(200, "<html><title>Gateway</title></html>"), "reply is no JSON"),
        (sends(200, json.dumps(document("Score: 5"))[:-9]), "reply is no JSON"),
        (breaks_off, "connection failed (RemoteProtocolError)"),
        (sends(200, '{"choices": []}'), "reply without an answer"),
        (sends(200, '{"error": {"message": "overloaded"}}'), "reply without an answer"),
        (sends(200, "[]"), "reply without an answer"),
        (sends(200, "zip", {"Content-Encoding": "gzip"}), "connection failed (DecodingError)"),
    ],
)
def test_what_may_pass_is_asked_again_then_counted(tmp_path, act, reason):
    with JudgeServer(act) as server:
        assert make_judge(server, tmp_path / "a").ask_all(["one"])[0].value == 50
        assert len(server.asked) == 2
    with JudgeServer(otherwise=act) as server:
        verdict = make_judge(server, tmp_path / "b").ask_all(["one"])[0]
        assert len(server.asked) == 3
    assert (verdict.value, verdict.reason) == (None, reason)
    assert not list((tmp_path / "b").rglob("*.json"))  # failures are not kept: the next run asks again


def test_waits_grow(tmp_path):
    with JudgeServer(*[sends(500, "")] * 4) as server:
        make_judge(server, tmp_path, first_wait=0.1, waits=4).ask_all(["one"])
        gaps = [later - sooner for sooner, later in zip(server.times, server.times[1:], strict=False)]
    for turn, gap in enumerate(gaps):
        assert 0.05 * 2**turn <= gap <= 0.1 * 2**turn + 0.2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_holds_for_every_question(tmp_path, form):
    def busy(handler):
        after = "1" if form == "seconds" else email.utils.formatdate(time.time() + 2, usegmt=True)
        sends(429, '{"error": "slow down"}', {"Retry-After": after})(handler)

    with JudgeServer(busy) as server:
        judge = make_judge(server, tmp_path)
        assert [verdict.value for verdict in judge.ask_all(["one", "two"])] == [50, 50]
        assert server.times[1] - server.times[0] >= 0.9
        assert len(server.asked) == 3


def test_a_wait_too_long_ends_the_run(tmp_path):
    with JudgeServer(sends(429, "", {"Retry-After": "3600"})) as server:
        judge = make_judge(server, tmp_path, parallel=4)
        with pytest.raises(UserError, match=r"asks to wait 3600 s; the same command goes on from here"):
            judge.ask_all(["one", "two"])


@pytest.mark.parametrize(
    ("status", "way_out"),
    [
        (401, "the key is wrong"),
        (402, "account is empty"),
        (403, "may not"),
        (404, "check the address"),
        (307, "HTTP 307"),
    ],
)
def test_what_would_meet_every_question_ends_the_run_at_once(tmp_path, status, way_out):
    body = json.dumps({"error": {"message": f"Incorrect key {KEY}\nprovided"}})
    with JudgeServer(otherwise=sends(status, body)) as server:
        judge = make_judge(server, tmp_path)
        with pytest.raises(UserError) as caught:
            judge.ask_all(["one", "two", "three"])
        assert len(server.asked) == 1
    message = str(caught.value)
    assert way_out in message
    assert "Incorrect key … provided" in message
    assert KEY not in message
    assert "\n" not in message


def test_a_question_that_the_server_refuses_is_not_repeated(tmp_path):
    refusal = sends(400, '{"error": {"message": "content risk"}}')
    with JudgeServer(refusal, says("x", finish_reason="content_filter")) as server:
        verdicts = make_judge(server, tmp_path).ask_all(["one", "two", "three"])
        assert len(server.asked) == 3
    reasons = [verdict.reason for verdict in verdicts]
    assert reasons == ["HTTP 400 (content risk)", "refused", None]


def test_many_failures_in_a_row_end_the_run(tmp_path):
    with JudgeServer(otherwise=sends(400, "")) as server:
        with pytest.raises(UserError, match=f"{GIVE_UP} questions in a row failed, the last with: HTTP 400"):
            make_judge(server, tmp_path).ask_all([str(number) for number in range(100)])
        assert len(server.asked) == GIVE_UP


def test_an_address_where_nobody_answers(tmp_path):
    with JudgeServer() as server:
        pass
    judge = make_judge(server, tmp_path, waits=20)
    with pytest.raises(UserError, match=r"cannot be reached; check the address"):
        judge.ask_all(["one"])


def test_slow_answers_come_side_by_side(tmp_path):
    with JudgeServer(otherwise=sleeps(0.2, says("Answer: The coverage is 50"))) as server:
        judge = make_judge(server, tmp_path, parallel=8)
        started = time.monotonic()
        verdicts = judge.ask_all([str(number) for number in range(16)])
        assert time.monotonic() - started < 1.6  # one after the other: 3.2
    assert all(verdict.value == 50 for verdict in verdicts)


def test_a_second_run_asks_nothing_and_another_model_asks_anew(tmp_path):
    with JudgeServer() as server:
        first = make_judge(server, tmp_path).ask_all(["one", "two", "one"])
        assert len(server.asked) == 2  # equal questions once
        again = make_judge(server, tmp_path).ask_all(["one", "two", "one"])
        assert len(server.asked) == 2
        assert [v.kept for v in first + again] == [False] * 3 + [True] * 3
        assert [(v.value, v.reply, v.prompt_tokens) for v in first] == [
            (v.value, v.reply, v.prompt_tokens) for v in again
        ]
        make_judge(server, tmp_path, body={"seed": 7}).ask_all(["one"])
        assert len(server.asked) == 3


def test_the_request(tmp_path):
    with JudgeServer() as server:
        make_judge(server, tmp_path, body={"temperature": None, "seed": 7}).ask_all(["how much?"])
        asked = server.asked[0]
        assert server.keys == [f"Bearer {KEY}"]
    assert asked == {
        "path": "/v1/chat/completions",
        "model": "judge-1",
        "messages": [{"role": "user", "content": "how much?"}],
        "max_tokens": 1024,
        "stream": False,
        "seed": 7,
    }
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert "how much?" in kept
    assert KEY not in kept
    assert KEY not in repr(make_judge(server, tmp_path))


@pytest.mark.parametrize(
    "echo",
    [
        KEY,
        KEY[:12],
        KEY[-11:],
        f"{KEY[:9]} {KEY[9:]}",
        KEY.replace("-", "\n- "),
        KEY.upper(),
        "".join(f"{sign}\u200b" for sign in KEY),
    ],
)
def test_nothing_of_the_key_is_printed_or_kept(tmp_path, echo):
    with JudgeServer(sends(400, json.dumps({"error": {"message": f"Bad key {echo}, sorry"}}))) as server:
        reason = make_judge(server, tmp_path / "a").ask_all(["q"])[0].reason
        assert reason.startswith("HTTP 400 (Bad key …")
        assert reason.endswith(", sorry)")
    told = document(f"Score: 40. Your key is {echo}!") | {"model": f"judge {echo}"}
    with JudgeServer(sends(200, json.dumps(told))) as server:
        judge = make_judge(server, tmp_path / "b")
        (answer,) = judge.ask_all(["q"])
        assert (answer.value, answer.reply[:26]) == (40, "Score: 40. Your key is " + answer.reply[23:26])
        (kept,) = (tmp_path / "b").rglob("*.json")
        entry = json.loads(kept.read_text())
        for text in (answer.reply, answer.model, entry["reply"], entry["model"], reason):
            assert "…" in text
            assert without_key(text, KEY) == text
        kept.write_text(json.dumps(entry | {"reply": f"Score: 40. Your key is {echo}!"}))
        assert judge.kept("q").reply == answer.reply  # an entry of an earlier version


def test_words_that_share_less_with_the_key_stay():
    assert without_key("no real key; sk-not, not a r…", KEY) == "no real key; sk-not, not a r…"
    assert without_key("no key here", "") == "no key here"
    assert without_key("the key ab-c is short", "abc") == "the key … is short"


def test_a_terminal_is_shown_escapes_and_does_not_obey_them(tmp_path):
    body = json.dumps({"error": "no\x1b[2J\x9b31m\u202e\nway"})
    with JudgeServer(sends(400, body)) as server:
        (answer,) = make_judge(server, tmp_path).ask_all(["q"])
    assert answer.reason == r"HTTP 400 (no\x1b[2J\x9b31m\u202e way)"


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"a": 1}},
        {"model": ["judge"]},
        {"model": float("nan")},
        {"model": "\ud800"},
        {"usage": float("nan")},
        {"usage": {"prompt_tokens": float("inf"), "completion_tokens": 10**290}},
        {"usage": {"prompt_tokens": -1, "completion_tokens": "7"}},
    ],
)
def test_whatever_a_reply_says_of_itself(tmp_path, change):
    with JudgeServer(sends(200, json.dumps(document("Score: 40") | change))) as server:
        judge = make_judge(server, tmp_path)
        (first,), (again,) = judge.ask_all(["q"]), judge.ask_all(["q"])
    assert first.value == again.value == 40
    assert again.kept
    assert first.model in (None, "\ufffd", "judge-1")
    assert first.prompt_tokens in (0, 100)
    assert first.completion_tokens in (0, 7)


@pytest.mark.parametrize(
    "text", ['{"a":' * 20_000, '{"score": ' + "9" * 5000 + "}", '{"score": "\\ud800"}', "\ud800", "NaN"]
)
def test_whatever_a_reply_holds_is_a_failure_with_a_reason(tmp_path, text):
    with JudgeServer(otherwise=says(text)) as server:
        (answer,) = make_judge(server, tmp_path).ask_all(["q"])
    assert answer.value is None
    assert answer.reason
    answer.reason.encode()


@pytest.mark.parametrize("entry", [{"model": {"a": 1}}, {"usage": {"prompt_tokens": 1e999}}, {"reply": [1]}])
def test_a_kept_reply_that_somebody_changed_is_asked_for_anew(tmp_path, entry):
    with JudgeServer() as server:
        judge = make_judge(server, tmp_path)
        judge.ask_all(["q"])
        (kept,) = tmp_path.rglob("*.json")
        kept.write_text(json.dumps(json.loads(kept.read_text()) | entry))
        assert not judge.ask_all(["q"])[0].kept


def test_one_question_has_a_deadline_for_all_its_requests(tmp_path):
    start = time.monotonic()
    with JudgeServer(otherwise=sleeps(1.0, says("Score: 40"))) as server:
        judge = make_judge(server, tmp_path, timeout=0.2, deadline=0.3, tries=50)
        assert judge.ask_all(["q"])[0].reason == "no reply in time"
    with JudgeServer(otherwise=sends(503, "")) as server:
        judge = make_judge(server, tmp_path, waits=50, first_wait=0.1, deadline=0.3, tries=50)
        assert judge.ask_all(["q"])[0].reason in ("HTTP 503", "no reply in time")
    assert time.monotonic() - start < 10


def test_inside_a_running_loop_as_in_a_notebook(tmp_path):
    async def cell(judge):
        return judge.ask_all(["one"])

    with JudgeServer() as server:
        assert asyncio.run(cell(make_judge(server, tmp_path)))[0].value == 50


def test_keys_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(UserError, match=r"JUDGE_KEY is not set"):
        read_key("JUDGE_KEY", "https://api.example.com")
    assert read_key("JUDGE_KEY", "http://127.0.0.1:1") == ""
    assert read_key("", "https://api.example.com") == ""
    monkeypatch.setenv("JUDGE_KEY", f" {KEY}\n")
    assert read_key("JUDGE_KEY", "https://api.example.com") == KEY
    with pytest.warns(UserWarning, match="travels unencrypted") as warned:
        read_key("JUDGE_KEY", "http://judge.example.com")
    assert KEY not in str(warned[0].message)
    monkeypatch.setenv("JUDGE_KEY", "two words")
    with pytest.raises(UserError, match=r"JUDGE_KEY holds") as caught:
        read_key("JUDGE_KEY", "https://api.example.com")
    assert "two" not in str(caught.value)


@pytest.mark.parametrize("address", ["", "api.example.com", "ftp://x", "https://", "http://[::1"])
def test_what_is_no_address(address):
    with pytest.raises(UserError, match="is no address"):
        is_local(address)
