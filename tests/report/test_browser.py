"""The page in a real browser, where one is installed: at the desk and on a phone, by keyboard and pointer."""

import csv
import time

import pytest

from sare_jax.report import ReportSpec
from sare_jax.report.side_by_side import side_by_side
from tests.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
WIDE = """[...document.querySelectorAll("body *")].filter((e) => !e.closest(".scroll, svg, .unseen, .tip") &&
  e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"""
SMALLEST = (
    "Math.min(...[...document.querySelectorAll('figure svg text')].filter(e => e.getClientRects().length)"
    + (".map(e => e.getBoundingClientRect().height))")
)
FOCUS = "document.activeElement.textContent.trim()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def started(folder):
    (folder / "downloads").mkdir()
    with Browser(folder) as browser:
        yield browser


@pytest.fixture
def chromium(started):
    started.new_tab()
    return started


@pytest.fixture
def page(written):
    return (written / "report.html").as_uri()


@pytest.mark.parametrize("width", [390, 1280])
def test_no_sideways_scrolling_and_legible_figures(chromium, page, width):
    chromium.open(page, width)
    chromium.run("document.querySelectorAll('details').forEach(e => { e.open = true; })")
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.run(WIDE) == []
    assert chromium.run(SMALLEST) >= 9, "figure text below 9 pixels"
    assert chromium.run("document.querySelectorAll('figure svg').length") == 23
    assert chromium.complaints == []


def test_without_scripts_everything_is_there(chromium, page):
    chromium.open(page, scripts="off")
    boxes = "[...document.querySelectorAll('.view table')].every(e => e.getBoundingClientRect().height > 50)"
    assert chromium.run(boxes)
    assert chromium.run("document.querySelector('.explorer').getClientRects().length") == 0
    assert chromium.run("document.querySelectorAll('[role=tab], .sort').length") == 0
    assert chromium.run("document.querySelectorAll('.points circle title').length") > 100


def test_views_change_by_keyboard(chromium, page):
    chromium.open(page)
    shown = "[...document.querySelectorAll('#results .view')].map(e => e.getClientRects().length > 0)"
    assert chromium.run(shown)[:2] == [True, False]
    chromium.run("document.querySelector('#results [role=tab]').focus()")
    chromium.press("ArrowRight")
    assert chromium.run(FOCUS) == "By attack"
    assert chromium.run(shown)[:2] == [False, True]
    chromium.press("Tab", "Tab")
    assert chromium.run("document.activeElement.closest('.view').dataset.name") == "By attack"


def test_tables_sort_by_keyboard_within_their_groups(chromium, page):
    chromium.open(page)
    column = (
        "[...document.querySelectorAll('#table-results tbody')].map(b => [...b.rows].slice(1)"
        ".map(r => Number(r.cells[1].dataset.value)))"
    )
    before = chromium.run(column)
    chromium.run("document.querySelectorAll('#table-results .sort')[1].focus()")
    chromium.press("Enter")
    assert chromium.run(column) == [sorted(group) for group in before]
    assert chromium.run("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"
    chromium.press("Enter")
    assert chromium.run(column) == [sorted(group, reverse=True) for group in before]
    chromium.press("Enter")
    assert chromium.run(column) == before
    assert not chromium.run("document.querySelector('#table-results [aria-sort]')?.outerHTML")


def test_values_are_told_under_the_pointer_and_by_arrows(chromium, page):
    chromium.open(page)
    tip = "(e => e.hidden ? '' : e.textContent)(document.querySelector('.tip'))"
    assert chromium.run(tip) == ""
    chromium.point("figure[data-name=hero-1] .points circle:nth-child(2)")
    assert chromium.run(tip).startswith("Base model, 60: ")
    chromium.run("document.querySelector('figure[data-name=hero-1] svg').focus()")
    chromium.press("ArrowRight", "ArrowRight", "ArrowRight")
    assert chromium.run(tip).startswith("Base model, 100: ")
    chromium.press("Escape")
    assert chromium.run(tip) == ""


def test_drawings_and_numbers_are_files(chromium, page, folder):
    chromium.open(page)
    svg, table = (folder / "downloads" / name for name in ("hero-1.svg", "results.csv"))
    chromium.run("document.querySelector('figure[data-name=hero-1] button.get').click()")
    chromium.run("document.querySelector('a.get[download=\"results.csv\"]').click()")
    end = time.monotonic() + 60
    while not (svg.exists() and table.exists()) and time.monotonic() < end:
        chromium.run("new Promise(done => setTimeout(done, 50))")
    text = svg.read_text(encoding="utf-8")
    assert "var(" not in text
    assert "<title>SARE, 60: " in text
    rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))
    assert rows[0][:5] == ["group", "Setting", "CHAIR_S", "CHAIR_S, low", "CHAIR_S, high"]
    assert len(rows) == 26
    chromium.open(svg.as_uri())
    assert chromium.run("document.documentElement.getBBox().width") > 300
    assert chromium.complaints == []


def test_captions_are_searched_by_keyboard_on_a_phone(chromium, page):
    chromium.open(page, 390)
    shown = "[...document.querySelectorAll('.answer')].filter(e => e.getClientRects().length)"
    chromium.point(".exhibit img")
    loaded = "(e => e.decode().then(() => e.naturalWidth))(document.querySelector('.exhibit img'))"
    assert chromium.run(loaded) == 160
    chromium.run("document.querySelector('.explorer input').focus()")
    chromium.type("frisbee")
    texts = chromium.run(f"{shown}.map(e => e.textContent)")
    assert texts
    assert all("frisbee" in text for text in texts)
    chromium.press("Tab")
    assert chromium.run("document.activeElement.name") == "run"
    chromium.press("S")
    assert chromium.run(f"{shown}.map(e => e.dataset.run)") == ["sare"] * len(
        [text for text in texts if text.strip().startswith("SARE")]
    )
    told = chromium.run("document.querySelector('.explorer output').textContent")
    assert told.startswith(f"{len(chromium.run(shown + '.map(e => 1)'))} of ")
    assert chromium.run(WIDE) == []


def test_two_reports_fit_a_phone(chromium, workdir, folder):
    page = side_by_side((workdir, ReportSpec()), (workdir, ReportSpec()), folder / "both.html")
    chromium.open(page.as_uri(), 390)
    assert chromium.run("document.documentElement.scrollWidth") <= 390
    assert chromium.run(WIDE) == []
    assert chromium.run("document.querySelectorAll('.sort').length") > 10
    assert chromium.complaints == []


def test_dark_pages_are_dark_and_legible(chromium, page):
    light = """(color => color.match(/[\\d.]+/g).slice(0, 3).map(Number).map(c => c / 255)
      .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
      .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0))"""
    chromium.open(page, scheme="dark")
    ground = chromium.run(f"{light}(getComputedStyle(document.body).backgroundColor)")
    assert ground < 0.02
    for selector in ("p.lead", ".fine", "mark.invented", ".caption", "a.get", "figure svg text", "ins"):
        style = f"getComputedStyle(document.querySelector('{selector}'))"
        ink = "fill" if "svg" in selector else "color"
        behind = f"{style}.backgroundColor" if selector in ("mark.invented", "ins") else "''"
        below = chromium.run(f"{behind} ? {light}({behind}) : {ground}")
        above = chromium.run(f"{light}({style}.{ink})")
        low, high = sorted((above, below))
        assert (high + 0.05) / (low + 0.05) >= 4.5, selector
