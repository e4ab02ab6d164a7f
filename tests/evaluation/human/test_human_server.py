import json
import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from PIL import Image

from sare_jax.errors import UserError
from sare_jax.evaluation.human.audit import StaleError, claim, find_images, resume, sample, version_of
from sare_jax.evaluation.human.server import AuditServer
from sare_jax.records.annotations import Annotated, read_annotations
from sare_jax.records.brackets import Mark
from sare_jax.records.texts import Dropped
from tests.evaluation.human.small_audit import CAPTIONS, make_audit, serving, write_captions, write_images

MARK = [2, 9, "correct"]
JSON = {"Content-Type": "application/json"}
OPEN = version_of(Annotated(1, "any caption"))  # the state of a caption that nobody has touched


def records_of(ids):
    return [{"image_id": number, "caption": f"caption {number}"} for number in ids]


def drawn_ids(records, size, seed=0):
    return [item.image for item in sample(records, size, seed, Dropped())]


# The draw


def test_the_draw_depends_on_ids_and_seed_alone():
    records = records_of(range(500))
    hundred = drawn_ids(records, 100)
    assert len(set(hundred)) == 100
    assert drawn_ids(records[::-1], 100) == hundred
    assert drawn_ids(records, 40) == hundred[:40]
    assert drawn_ids(records, 100, seed=1) != hundred
    named = [r | {"image_id": f"COCO_val2014_{r['image_id']:012d}.jpg"} for r in records]
    assert [int(name[-10:-4]) for name in drawn_ids(named, 100)] == hundred
    without = [r for r in records if r["image_id"] != hundred[3]]
    assert drawn_ids(without, 99) == hundred[:3] + hundred[4:]
    assert sorted(drawn_ids(records, 0)) == list(range(500))
    assert len(drawn_ids(records[:7], 100)) == 7


def test_the_draw_is_spread_over_the_ids():
    mean = sum(drawn_ids(records_of(range(1000)), 200)) / 200
    assert mean == pytest.approx(499.5, abs=4 * 289 / 200**0.5)


def test_what_cannot_be_drawn_is_counted():
    dropped = Dropped()
    records = [{"image_id": 1, "caption": None}, {"caption": "a"}, {"image_id": float("nan"), "caption": "a"}]
    records += [{"image_id": 2, "caption": "  "}, {"image_id": 3, "caption": "a"}]
    items = sample(records, 0, 0, dropped)
    counted = {reason: len(places) for reason, places in dropped.items()}
    assert counted == {"caption is no text": 1, "no image id": 2}
    assert {item.image: item.done for item in items} == {2: True, 3: False}
    with pytest.raises(UserError, match=r"nothing to annotate \(no image id: 1\)"):
        sample([{"caption": "a"}], 0, 0, Dropped())
    with pytest.raises(UserError, match="more than one caption for image"):
        sample([{"image_id": 1, "caption": "a"}, {"image_id": "1", "caption": "b"}], 0, 0, Dropped())


# Images


def test_images_by_name_and_by_number(tmp_path):
    folder = write_images(tmp_path / "images", [1, 12])
    Image.new("RGB", (2, 2)).save(folder / "lamp.png")
    names = (1, "000000000012.jpg", "lamp", "val2014/lamp.png", 99)
    records = [{"image_id": name, "caption": "a"} for name in names]
    items = {item.image: item for item in sample(records, 0, 0, Dropped())}
    found = dict(zip(items, find_images(list(items.values()), folder), strict=True))
    assert {image: path and path.name for image, path in found.items()} == {
        1: "COCO_val2014_000000000001.jpg",
        "000000000012.jpg": "COCO_val2014_000000000012.jpg",
        "lamp": "lamp.png",
        "val2014/lamp.png": "lamp.png",
        99: None,
    }


def test_images_that_cannot_be_found(tmp_path):
    items = sample(records_of([1]), 0, 0, Dropped())
    with pytest.raises(UserError, match="cannot be read"):
        find_images(items, tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no image of these captions in it \(looked for 1"):
        find_images(items, tmp_path)
    for name in ("train_1.jpg", "val_1.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"image 1 could be train_1\.jpg, val_1\.jpg"):
        find_images(items, tmp_path)


# The file


def test_every_change_is_on_disk_and_work_goes_on_from_there(tmp_path):
    audit = make_audit(tmp_path)
    assert audit.change(0, OPEN, [Mark(*MARK)], False) == version_of(audit.items[0]) != OPEN
    assert [item.marks for item in read_annotations(audit.path)[0]] == [(Mark(*MARK),), (), ()]
    audit.change(1, OPEN, [], True)
    again = make_audit(tmp_path)
    assert again.items == audit.items
    assert again.done == 1


def test_changes_that_do_not_fit_change_nothing(tmp_path):
    audit = make_audit(tmp_path)
    version = audit.change(0, OPEN, [Mark(*MARK)], False)
    with pytest.raises(StaleError):
        audit.change(0, OPEN, [], False)
    with pytest.raises(ValueError, match="a mark from 2 to 999"):
        audit.change(0, version, [Mark(2, 999, "correct")], False)
    for place in (3, -1):
        with pytest.raises(IndexError):
            audit.change(place, version, [], False)
    assert read_annotations(audit.path)[0][0].marks == (Mark(*MARK),)


def test_the_work_of_others_and_other_captions_are_refused(tmp_path):
    audit = make_audit(tmp_path)
    audit.change(0, OPEN, [], True)
    with pytest.raises(UserError, match=r"annotations\.jsonl: holds the work of Ada; name another --out"):
        make_audit(tmp_path, "Bea")
    with pytest.raises(UserError, match=r"holds other captions than"):
        resume(audit.path, audit.items[:2], "Ada")
    audit.path.write_text(audit.path.read_text()[:-40])
    with pytest.raises(UserError, match=r"not whole \(half-written last line: line 3\)"):
        resume(audit.path, audit.items, "Ada")


def test_one_page_at_a_time_writes_a_file(tmp_path):
    with claim(tmp_path / "a.jsonl"), pytest.raises(UserError, match="another annotation page is writing it"):
        claim(tmp_path / "a.jsonl")
    claim(tmp_path / "a.jsonl").close()


# The server


@pytest.fixture
def page(tmp_path):
    with serving(make_audit(tmp_path)) as server:
        origin = {"Origin": server.address.rstrip("/")}
        with httpx.Client(base_url=server.address, headers=origin, trust_env=False) as client:
            client.audit = server.audit
            yield client


def change(version=OPEN, marks=(MARK,), done=False):
    return {"version": version, "marks": list(marks), "done": done}


def test_the_page_and_its_captions(page):
    assert "Object audit" in page.get("/").text
    for name in ("/page.css", "/page.js"):
        assert page.get(name).status_code == 200
    shown = page.get("/audit").json()
    assert shown["annotator"] == "Ada"
    assert [item["caption"] for item in shown["items"]] == list(CAPTIONS.values())
    image = page.get("/image/0")
    assert image.headers["content-type"] == "image/jpeg"
    assert image.content == page.audit.images[0].read_bytes()


def test_nothing_is_fetched_from_elsewhere(page):
    for name in ("/", "/page.css", "/page.js"):
        text = page.get(name).text
        assert not re.search(r"https?://|@import|url\(", text)
    policy = page.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_change_is_saved(page):
    version = page.post("/caption/0", json=change()).json()["version"]
    assert page.get("/audit").json()["items"][0]["marks"] == [MARK]
    assert page.post("/caption/0", json=change()).status_code == 409
    assert page.post("/caption/0", json=change(version, [], True)).status_code == 200
    assert read_annotations(page.audit.path)[0][0].done


def spoken(page, request: str) -> bytes:
    """What the server answers to a request in its own words, and then closes the connection."""
    address = page.base_url
    with socket.create_connection((address.host, address.port), timeout=30) as connection:
        connection.sendall(request.replace("HOST", f"{address.host}:{address.port}").encode())
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\nHost: HOST\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n", 400),
        (f"GET /image/{'1' * 30} HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (f"GET /image/{'1' * 5000} HTTP/1.1\r\nHost: HOST\r\n\r\n", 404),
        (f"POST /caption/{'1' * 30} HTTP/1.1\r\nHost: HOST\r\nLENGTH: 9\r\n\r\n{{}}", 404),
        (f"POST /caption/0 HTTP/1.1\r\nHost: HOST\r\nLENGTH: {'9' * 30}\r\n\r\n{'{}' * 9999}", 413),
        (f"POST /caption/0 HTTP/1.1\r\nHost: HOST\r\nLENGTH: {'9' * 5000}\r\n\r\n{{}}", 413),
        ("POST /caption/0 HTTP/1.1\r\nHost: HOST\r\nLENGTH: 2\r\nLENGTH: 3\r\n\r\n{}", 400),
        ("POST /caption/0 HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
    ],
)
def test_what_no_browser_sends_is_refused_with_an_answer(page, request_, status, capsys):
    about = "Origin: http://HOST\r\nContent-Type: application/json\r\nContent-Length"
    answer = spoken(page, request_.replace("LENGTH", about, 1).replace("LENGTH", "Content-Length"))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert answer.partition(b"\r\n\r\n")[2].startswith(b'{"error": ')
    assert capsys.readouterr().err == ""
    assert page.get("/audit").status_code == 200


def test_links_out_of_the_folder_are_not_served(tmp_path):
    audit = make_audit(tmp_path)
    (tmp_path / "secret.txt").write_text("root:x:0:0")
    audit.images[1].unlink()
    audit.images[1].symlink_to(tmp_path / "secret.txt")  # after the start
    with serving(audit) as server, httpx.Client(base_url=server.address) as client:
        assert client.get("image/0").status_code == 200
        assert client.get("image/1").status_code == 404
    items = [Annotated(number, text) for number, text in CAPTIONS.items()]
    found = find_images(items, tmp_path / "images")
    assert [path is None for path in found] == [False, True, False]


@pytest.mark.parametrize(
    "path",
    [
        *("/page.html", "/audit.py", "/image/", "/image/3", "/image/-1", "/image/x", "/image/²"),
        *("/image/../server.py", "/../../../etc/passwd", "/image/%2e%2e%2fserver.py", "//etc/passwd"),
    ],
)
def test_no_other_file_is_reachable(page, path):
    address = page.base_url
    with socket.create_connection((address.host, address.port)) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: {address.host}:{address.port}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
def test_other_hosts_and_other_pages_are_refused(page, headers, status):
    answer = page.post("/caption/0", content=json.dumps(change()), headers=JSON | headers)
    assert answer.status_code == status
    assert [version_of(item) for item in page.audit.items] == [OPEN] * 3


def test_a_body_too_long_is_not_read(page):
    content = b" " * (2 << 20)
    answer = page.post("/caption/0", content=content, headers=JSON)
    assert answer.status_code == 413


def test_reading_needs_the_right_host_too(page):
    for path in ("/", "/audit", "/image/0"):
        refused = page.get(path, headers={"Host": "evil.example"})
        assert (refused.status_code, refused.headers["Connection"]) == (403, "close")
    assert page.get("/", headers={"Host": f"localhost:{page.base_url.port}"}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        *("", "{", "[]", "null", "{}", '{"version": "%s", "marks": [], "done": 1}'),
        '{"version": 0, "marks": [], "done": true}',
        '{"version": "%s", "marks": [[0, 1]], "done": true}',
        '{"version": "%s", "marks": [[0, 1.5, "correct"]], "done": true}',
        '{"version": "%s", "marks": [[0, 1, ["correct"]]], "done": true}',
        '{"version": "%s", "marks": [[0, 1, "perhaps"]], "done": true}',
        '{"version": "%s", "marks": [[0, 9, "correct"], [3, 12, "correct"]], "done": true}',
        '{"version": "%s", "marks": [[0, 9999, "correct"]], "done": true}',
    ],
)
def test_malformed_changes_are_refused(page, body):
    answer = page.post("/caption/0", content=body.replace("%s", OPEN), headers=JSON)
    assert answer.status_code == 400
    assert [version_of(item) for item in page.audit.items] == [OPEN] * 3


def test_it_listens_on_this_machine_only(page):
    assert page.base_url.host == "127.0.0.1"
    with pytest.raises(UserError, match=rf"--port {page.base_url.port}: cannot be opened"):
        AuditServer(page.audit, page.base_url.port)
    with pytest.raises(UserError, match="--port 99999"):
        AuditServer(page.audit, 99999)


def test_a_file_that_cannot_be_written_is_said(page):
    page.audit.path = page.audit.path.parent / "images" / "COCO_val2014_000000000011.jpg" / "a.jsonl"
    answer = page.post("/caption/0", json=change())
    assert answer.status_code == 500
    assert "a.jsonl" in answer.json()["error"]
    assert page.audit.items[0].marks == ()


def test_the_command_serves_until_interrupted(tmp_path):
    captions = write_captions(tmp_path / "captions.jsonl", CAPTIONS | {77: "No image"})
    write_images(tmp_path / "images", CAPTIONS)
    command = [sys.executable, "-m", "sare_jax.evaluation", "human", "serve", "--captions", str(captions)]
    command += ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "out" / "a.jsonl")]
    command += ["--annotator", "Ada", "--port", "0", "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = [process.stdout.readline() for _ in range(3)]
    assert said[0] == "no image found for 1 captions: 77\n"
    assert said[1].startswith("4 captions, 0 finished")
    address = re.search(r"http://127\.0\.0\.1:\d+", said[2]).group()
    with httpx.Client(base_url=address, headers={"Origin": address}, trust_env=False) as client:
        assert client.post("/caption/0", json=change(marks=[], done=True)).status_code == 200
    second = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert "another annotation page is writing it" in second.stderr
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert "1 of 4 finished; the same command goes on from here" in out
