"""The page in a real browser, where one is installed."""

import html
import re
import shutil
import subprocess

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=4000",
    "--window-size=1400,900",
    "--dump-dom",
]
PROBE = """
<body style="margin:0">
<iframe id="page" style="border:0;width:{width}px;height:900px" srcdoc="{page}"></iframe>
<script>
document.getElementById("page").onload = (event) => {{
  const page = event.target.contentDocument;
  const wide = [...page.querySelectorAll("body *")].filter((e) =>
    !e.closest(".scroll, svg, .unseen") && e.getBoundingClientRect().right > {width} + 1);
  const small = [...page.querySelectorAll("figure svg text")].map((e) => e.getBoundingClientRect().height);
  document.title = ["probed", page.documentElement.scrollWidth, wide.length, Math.min(...small),
    page.querySelectorAll("figure svg").length].join(" ");
}};
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_no_sideways_scrolling_and_legible_figures(written, tmp_path, width):
    page = (written / "report.html").read_text(encoding="utf-8")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(width=width, page=html.escape(page)), encoding="utf-8")
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", probe.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    probed = re.search(r"<title>probed (\d+) (\d+) ([\d.]+) (\d+)</title>", dom)
    assert probed, dom[-500:]
    scroll_width, too_wide, smallest, shown = (float(number) for number in probed.groups())
    assert scroll_width <= width
    assert too_wide == 0
    assert smallest >= 9, "figure text below 9 pixels"
    assert shown == 23
