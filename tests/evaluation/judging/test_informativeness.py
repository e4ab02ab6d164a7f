import json
import os
import signal
import subprocess
import sys
import time

import pytest

from sare_jax.errors import UserError
from sare_jax.evaluation.judging import informativeness
from sare_jax.evaluation.judging.informativeness import prompt_for, read_references, score
from sare_jax.evaluation.judging.judge import Verdict
from sare_jax.records.coco import read_truth
from tests.evaluation.judging.judge_server import JudgeServer, says, sends, sleeps
from tests.evaluation.small_worlds import truth_of, write_coco

KEY = "sk-not-a-real-key-1234"
INSTANCES = {1: ["dog", "person"], 2: ["cat"], 3: ["cup"]}
REFERENCES = {1: ["A man walks a dog.", "A person outside"], 2: ["A cat."], 3: ["A cup of tea"]}
CAPTIONS = [
    {"image_id": 1, "caption": "A man and his dog."},
    {"image_id": "COCO_val2014_000000000002.jpg", "caption": "An animal"},
    {"image_id": 3, "caption": "tea"},
]


@pytest.fixture
def folder(tmp_path):
    return write_coco(tmp_path / "annotations", INSTANCES, REFERENCES)


@pytest.fixture
def captions(tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in CAPTIONS))
    return path


def marks(*scores):
    """A judge that gives these marks in turn; None fails."""

    def ask(questions):
        assert len(questions) == len(scores)
        return [
            Verdict(s, None if s is not None else "refused", "…", prompt_tokens=10, completion_tokens=2)
            for s in scores
        ]

    return ask


def test_the_question_holds_reference_categories_scale_and_form():
    prompt = prompt_for(" A {man} and\n a dog ", ["A man\nwalks a dog."], ["dog", "person"])
    assert "- A man walks a dog.\n" in prompt
    assert "dog, person" in prompt
    assert "<description>\nA {man} and\n a dog\n</description>" in prompt
    assert "from 1 (nothing mentioned) to 100" in prompt
    assert prompt.endswith("Answer: The coverage is <number>\n")
    assert "to 10 (" in prompt_for("a", ["b"], [], scale=10)
    assert "none annotated" in prompt_for("a", ["b"], [])


def test_the_mean_of_the_marks_with_its_interval(folder):
    result = score(CAPTIONS, read_truth(folder), marks(100, 40, 10), model="judge-1")
    assert result["informativeness"] == 50
    assert result["mean_words"] == pytest.approx((5 + 2 + 1) / 3)
    assert (result["n"], result["failed"], result["skipped"]) == (3, 0, 0)
    low, high = result["intervals"]["informativeness"]
    assert 10 <= low < 50 < high <= 100
    assert result["per_image"]["coverage"] == [100, 40, 10]
    assert result["tokens"]["prompt"] == 30
    assert "one reference caption" in result["rule"]


def test_failures_are_counted_by_reason_and_are_no_zeros(folder):
    result = score(CAPTIONS, read_truth(folder), marks(90, None, 70))
    assert result["informativeness"] == 80
    assert (result["n"], result["failed"], result["skipped"]) == (2, 1, 1)
    assert result["dropped"]["judge: refused"] == {"count": 1, "which": ["2"]}
    with pytest.raises(UserError, match=r"nothing could be scored \(judge: refused: 3\)"):
        score(CAPTIONS, read_truth(folder), marks(None, None, None))


def test_an_empty_caption_gets_the_lowest_mark_unasked(folder):
    captions = [*CAPTIONS[:2], {"image_id": 3, "caption": " "}]
    result = score(captions, read_truth(folder), marks(100, 100))
    assert result["informativeness"] == pytest.approx(201 / 3)
    assert result["empty_rate"] == pytest.approx(1 / 3)


def test_order_and_repetition_do_not_change_the_score(folder):
    def by_length(questions):
        return [Verdict(float(len(question) % 97 + 1)) for question in questions]

    plain = score(CAPTIONS, read_truth(folder), by_length)
    mixed = score(CAPTIONS[::-1] + CAPTIONS[:1], read_truth(folder), by_length)
    assert plain["informativeness"] == mixed["informativeness"]
    assert mixed["dropped"]["repeated"]["count"] == 1


def test_first_reference_or_all(folder):
    seen = []

    def ask(questions):
        seen.append(questions[0])
        return [Verdict(50.0)] * len(questions)

    score(CAPTIONS, read_truth(folder), ask)
    score(CAPTIONS, read_truth(folder), ask, references="all")
    assert "A person outside" not in seen[0]
    assert "- A man walks a dog.\n- A person outside\n" in seen[1]


@pytest.mark.parametrize(
    "content",
    [
        '{"1": "A man.", "2": ["A cat.", "It sits"], "99": "x"}',
        '{"annotations": [{"image_id": 1, "caption": "A man."}, {"image_id": 2, "caption": "A cat."},'
        ' {"image_id": 2, "caption": "It sits"}]}',
        '{"image_id": 1, "caption": "A man."}\n{"image_id": 2, "caption": "A cat."}\n'
        '{"image_id": 2, "caption": "It sits"}\n{"image_id": 3, "caption": null}\n',
    ],
)
def test_references_from_a_file_of_their_own(tmp_path, content):
    path = tmp_path / "references.json"
    path.write_text(content)
    truth = truth_of(tmp_path, INSTANCES)
    with pytest.raises(UserError, match="no reference captions of these images; give them with --references"):
        score(CAPTIONS, truth, marks())
    truth = read_references(path, truth)
    assert truth.references == {1: ("A man.",), 2: ("A cat.", "It sits")}
    result = score(CAPTIONS, truth, marks(60, 80))
    assert result["informativeness"] == 70
    assert result["dropped"]["no reference caption"] == {"count": 1, "which": ["3"]}


def test_references_of_other_images(tmp_path):
    path = tmp_path / "references.json"
    path.write_text('{"77": "A man."}')
    with pytest.raises(UserError, match="no reference caption of the images"):
        read_references(path, truth_of(tmp_path, INSTANCES))


def arguments(server, folder, captions, tmp_path, *more):
    return [
        *("--captions", str(captions), "--truth", str(folder), "--cache", str(tmp_path / "kept")),
        *("--base-url", server.base_url, "--model", "judge-1", "--key-variable", "JUDGE_KEY", *more),
    ]


def test_the_command_line_keeps_the_key_to_itself(folder, captions, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    replies = tmp_path / "replies.jsonl"
    with JudgeServer(otherwise=says('```json\n{"score": 80}\n```')) as server:
        more = ["--price-in", "2", "--price-out", "10", "--replies", str(replies)]
        argv = arguments(server, folder, captions, tmp_path, *more)
        informativeness.main([*argv, "--json"])
        out, err = capsys.readouterr()
        result = json.loads(out)
        assert server.keys == [f"Bearer {KEY}"] * 3
        monkeypatch.delenv("JUDGE_KEY")  # what is kept needs no key
        informativeness.main(argv)
        assert len(server.asked) == 3
    again = capsys.readouterr()
    assert (result["informativeness"], result["n"], result["model"]) == (80, 3, "judge-1")
    assert result["judge_models"] == ["judge-1"]
    assert result["cost"]["now"] == pytest.approx((300 * 2 + 21 * 10) / 1e6)
    assert "0 answered before; 3 to ask" in err
    assert "informativeness    80.000   95 % [80.000, 80.000]" in again.out
    assert "0 failed" in again.out
    assert "0 prompt and 0 completion tokens; cost 0.0000; 3 replies kept from before" in again.out
    assert "3 answered before; 0 to ask" in again.err
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert KEY not in "".join([out, err, again.out, again.err, *written])
    assert [json.loads(line)["value"] for line in replies.read_text().splitlines()] == [80] * 3


def test_a_dry_run_asks_nothing_and_needs_no_key(folder, captions, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    argv = ["--captions", str(captions), "--truth", str(folder), "--cache", str(tmp_path / "kept")]
    with pytest.raises(SystemExit) as ended:
        informativeness.main([*argv, "--dry-run", "--price-in", "1", "--price-out", "1"])
    assert ended.value.code == 0
    err = capsys.readouterr().err
    assert "deepseek-chat at https://api.deepseek.com: 3 questions, 0 answered before; 3 to ask" in err
    with pytest.raises(UserError, match="DEEPSEEK_API_KEY is not set"):
        informativeness.main(argv)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "m", "--scale", "1"], "--scale 1"),
        (["--base-url", "http://127.0.0.1:1"], "--base-url needs --model"),
        (["--model", "m", "--parallel", "0"], "--parallel must be above 0"),
        (["--model", "m", "--body", "[1]"], "--body: give an object"),
        (["--model", "m", "--body", "{"], "--body: not valid JSON"),
    ],
)
def test_options_that_cannot_be(folder, captions, more, message):
    with pytest.raises(UserError, match=message):
        informativeness.main(["--captions", str(captions), "--truth", str(folder), "--dry-run", *more])


def run_command(argv, **variables):
    command = [sys.executable, "-m", "sare_jax.evaluation", "informativeness", *argv]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | variables
    )


def test_a_wrong_key_is_one_line_and_status_2(folder, captions, tmp_path):
    refusal = sends(401, json.dumps({"error": {"message": f"no such key: {KEY}"}}))
    with JudgeServer(otherwise=refusal) as server:
        process = run_command(arguments(server, folder, captions, tmp_path, "--parallel", "1"), JUDGE_KEY=KEY)
        out, err = process.communicate(timeout=60)
        assert len(server.asked) == 1
    assert (process.returncode, out) == (2, "")
    lines = [line for line in err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert "HTTP 401 (no such key: …); the key is wrong" in lines[0]
    assert KEY not in err
    assert "Traceback" not in err


def test_an_interrupted_run_goes_on_from_there(folder, captions, tmp_path):
    slow = sleeps(30, says("Answer: The coverage is 60"))
    with JudgeServer(says("Answer: The coverage is 60"), otherwise=slow) as server:
        argv = arguments(server, folder, captions, tmp_path, "--parallel", "1", "--json")
        process = run_command(argv, JUDGE_KEY=KEY)
        while len(server.asked) < 2:
            time.sleep(0.02)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert "the same command goes on from here" in process.communicate(timeout=20)[1]
        assert process.returncode == 130
        server.otherwise = says("Answer: The coverage is 60")
        out, _ = run_command(argv, JUDGE_KEY=KEY).communicate(timeout=60)
        assert len(server.asked) == 4
    assert json.loads(out)["tokens"]["replies_kept_before"] == 1


def test_starts_without_jax_and_torch():
    code = (
        "import sys, time, sare_jax.evaluation.judging.informativeness\n"
        "print(sorted({'jax', 'torch', 'flax'} & set(sys.modules)), time.process_time() < 2)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["[]", "True"]
