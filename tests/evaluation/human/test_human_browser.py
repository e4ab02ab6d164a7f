"""The annotation page worked by keys and clicks in a real browser, where one is installed."""

import re
import subprocess
import sys

import pytest

from sare_jax.evaluation.human.audit import version_of
from sare_jax.records.annotations import read_annotations
from tests.browser import CHROMIUM, Browser
from tests.evaluation.human.small_audit import CAPTIONS, make_audit, serving, write_captions, write_images

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile"), "!!document.querySelector('.word')") as opened:
        yield opened


@pytest.fixture
def page(browser, tmp_path):
    with serving(make_audit(tmp_path)) as server:
        browser.new_tab()
        browser.open(server.address)
        browser.audit = server.audit
        browser.address = server.address
        yield browser
    assert browser.complaints == []


def word(text, place=0):
    return f"[...document.querySelectorAll('.word')].filter((e) => e.textContent === {text!r})[{place}]"


def button(name):
    return f"document.getElementById({name!r})"


def saved(page, caption=0):
    """Marks on disk, as (words, verdict), once the page says that they are there."""
    page.wait("document.getElementById('saved').textContent === 'Saved'")
    item = read_annotations(page.audit.path)[0][caption]
    return [(item.caption[m.start : m.end], m.verdict) for m in item.marks]


def title(page):
    return page.run("document.getElementById('title').textContent")


def test_words_and_phrases_by_keyboard(page):
    page.press("ArrowRight", "ArrowRight", "h")
    assert saved(page) == [("dog", "hallucinated")]
    page.press("ArrowLeft", "ArrowLeft")
    page.press("ArrowRight", "ArrowRight", shift=True)
    page.press("c")
    assert saved(page) == [("A big dog", "correct")]
    page.press("ArrowLeft", "h")  # one word of a phrase stands for the phrase
    assert saved(page) == [("A big dog", "hallucinated")]
    page.press("End", "c")
    assert saved(page) == [("A big dog", "hallucinated"), ("shines", "correct")]
    page.press("u")
    assert saved(page) == [("A big dog", "hallucinated")]
    page.press("Home", "Backspace")
    assert saved(page) == []
    page.press("u", "u", "u")
    assert saved(page) == [("dog", "hallucinated")]


def test_words_and_phrases_by_click(page):
    page.click(word("dog"))
    assert saved(page) == [("dog", "correct")]
    page.click(word("dog"))
    assert saved(page) == [("dog", "hallucinated")]
    page.click(word("two"))
    page.click(word("cats"), shift=True)
    assert saved(page) == [("dog", "hallucinated"), ("two red cats", "correct")]
    page.click(word("red"))
    assert saved(page)[1] == ("two red cats", "hallucinated")
    page.click(word("cats"))
    assert saved(page) == [("dog", "hallucinated")]
    page.click(word("sun"))  # behind a character of two UTF-16 units
    assert saved(page)[-1] == ("sun", "correct")
    page.click(button("undo"))
    page.click(button("undo"))
    assert saved(page)[-1] == ("two red cats", "hallucinated")


def test_buttons_as_a_finger_uses_them(page):
    page.click(word("big"))
    page.click(button("phrase"))
    assert page.run("document.getElementById('phrase').getAttribute('aria-pressed')") == "true"
    page.click(word("dog"))
    assert saved(page) == [("big dog", "correct")]
    assert page.run("document.getElementById('phrase').getAttribute('aria-pressed')") == "false"
    page.click(button("hallucinated"))
    assert saved(page) == [("big dog", "hallucinated")]
    page.click(button("clear"))
    assert saved(page) == []


def test_a_reload_and_a_restart_go_on_where_the_work_stopped(page, tmp_path):
    page.press("c", "Enter")
    assert title(page) == "Caption 2 of 3"
    page.press("ArrowRight", "h")
    assert saved(page, 1) == [("cups", "hallucinated")]
    page.open(page.address)
    assert title(page) == "Caption 2 of 3"
    assert page.run("document.querySelector('.mark').textContent") == "cups"
    assert page.run("document.getElementById('count').textContent") == "1 of 3 finished"
    with serving(make_audit(tmp_path)) as server:
        page.open(server.address)
        assert title(page) == "Caption 2 of 3"
        assert page.run("document.querySelector('.mark').textContent") == "cups"
        page.press("p")
        assert title(page) == "Caption 1 of 3"
        assert page.run("document.getElementById('state').textContent") == "finished"


def test_to_the_end(page):
    page.press("n", "n", "n")
    assert title(page) == "Caption 3 of 3"
    page.press("Enter")
    assert title(page) == "Caption 1 of 3"  # the first that is still open
    page.press("Enter", "Enter")
    page.wait("document.getElementById('message').textContent.includes('All 3 captions are finished')")
    saved(page)
    assert [item.done for item in read_annotations(page.audit.path)[0]] == [True] * 3
    page.press("u")
    saved(page)
    assert [item.done for item in read_annotations(page.audit.path)[0]] == [True, False, True]


def test_up_and_down_move_by_lines(page):
    top = "document.activeElement.getBoundingClientRect().top"
    page.open(page.address, 390, 844)
    page.press("n", "ArrowRight")
    first, name = page.run(top), page.run("document.activeElement.textContent")
    page.press("ArrowDown")
    assert page.run(top) > first + 20
    page.press("ArrowUp")
    assert page.run("document.activeElement.textContent") == name


def test_two_windows_do_not_overwrite_each_other(page):
    page.audit.change(0, version_of(page.audit.items[0]), [], True)  # as another window would
    page.press("c")
    page.wait("document.getElementById('message').textContent.includes('changed in another window')")
    assert read_annotations(page.audit.path)[0][0].marks == ()
    page.complaints.clear()  # the browser reports the refused request


def test_a_disk_that_is_full_loses_nothing(page):
    page.audit.path, path = page.audit.path.parent / "images", page.audit.path
    page.press("c")
    page.wait("/^Not saved: .*Trying again/.test(document.getElementById('message').textContent)")
    page.audit.path = path
    assert saved(page) == [("A", "correct")]
    page.complaints.clear()


def test_a_server_that_is_away_loses_nothing(browser, tmp_path):
    captions = write_captions(tmp_path / "captions.jsonl", {11: CAPTIONS[11]})
    command = [sys.executable, "-m", "sare_jax.evaluation", "human", "serve", "--captions", str(captions)]
    command += ["--images", str(write_images(tmp_path / "images", [11])), "--no-browser"]
    command += ["--out", str(tmp_path / "annotations.jsonl"), "--port"]

    def serve(port):
        process = subprocess.Popen([*command, port], stdout=subprocess.PIPE, text=True)
        return process, re.search(
            r"http://\S+?:(\d+)/", process.stdout.readline() + process.stdout.readline()
        )

    process, found = serve("0")
    browser.new_tab()
    browser.open(found[0])
    browser.press("c")
    browser.wait("document.getElementById('saved').textContent === 'Saved'")
    process.kill()
    process.wait()
    browser.press("ArrowRight", "h")
    browser.wait("document.getElementById('message').textContent.includes('server does not answer')")
    assert browser.run("document.getElementById('saved').textContent") == "Not saved"
    process, _ = serve(found[1])
    browser.wait("document.getElementById('saved').textContent === 'Saved'")
    assert browser.run("document.getElementById('message').hidden")
    process.kill()
    process.wait()
    item = read_annotations(tmp_path / "annotations.jsonl")[0][0]
    assert [mark.verdict for mark in item.marks] == ["correct", "hallucinated"]


def test_what_a_screen_reader_is_told(page):
    page.press("h")
    told = page.run(
        "[document.querySelector('[role=listbox]').getAttribute('aria-label'),"
        " document.activeElement.getAttribute('role'), document.activeElement.getAttribute('aria-label'),"
        " document.activeElement.getAttribute('aria-selected'),"
        " document.querySelectorAll('[tabindex=\"0\"]').length,"
        " document.querySelector('[role=status]').textContent]"
    )
    assert told[:5] == ["Words of the caption", "option", "A, hallucinated", "true", 1]
    assert told[5] == "0 correct, 1 hallucinated"
    named = "(e) => e.innerText.trim() || e.querySelector('img').alt"
    assert page.run(f"[...document.querySelectorAll('button, a')].every({named})")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.run(outline) == "solid"
    page.press("Tab")
    assert page.run("document.activeElement.id") == "correct"
    assert page.run(outline) == "solid"


@pytest.mark.parametrize("width", [390, 1280])
def test_no_sideways_scrolling_and_the_image_beside_the_caption(page, width):
    page.open(page.address, width, 844)
    page.wait("document.getElementById('image').complete")
    assert page.run("document.documentElement.scrollWidth") <= width
    assert page.run("document.getElementById('image').naturalWidth") == 320
    box = "document.getElementById({!r}).getBoundingClientRect().toJSON()"
    image, caption, finish = (page.run(box.format(name)) for name in ("image", "caption", "finish"))
    assert 0 <= image["top"] < image["bottom"] < 844
    assert 0 < caption["top"] < 600
    assert finish["bottom"] <= 844
    assert finish["height"] >= 40
    assert page.run("document.getElementById('caption').textContent") == CAPTIONS[11]
