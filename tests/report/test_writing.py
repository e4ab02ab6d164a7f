import base64
import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from sare_jax import files
from sare_jax.frontier.writing import frontier
from sare_jax.frontier.writing import write as write_frontier
from sare_jax.report import ReportSpec, spec_of, table_text, write
from sare_jax.report.command import main
from tests.frontier.workdirs import make as make_frontier

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """Checks nesting and gathers ids, resources and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.resources, self.text, self.tags = [], [], [], [], []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        self.resources += [found[key] for key in ("src", "href", "srcset", "action") if found.get(key)]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)


@pytest.fixture(scope="module")
def page(written):
    return Page((written / "report.html").read_text(encoding="utf-8"))


def test_page_needs_nothing_from_outside(page, written):
    for resource in page.resources:
        assert resource.startswith(("#", "data:")), resource[:80]
    text = (written / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"url\((?!#)|@import|<script[^>]|fetch|XMLHttpRequest|import\(", text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(attrs["content"] for tag, attrs in page.tags if "http-equiv" in attrs)
    assert policy.startswith(
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert str(written) not in text
    assert len(text.encode()) < 2_000_000


def test_every_table_and_figure_is_offered_as_csv(page):
    links = {
        attrs["download"]: attrs["href"] for tag, attrs in page.tags if tag == "a" and "download" in attrs
    }
    shown = {attrs["id"].removeprefix("table-") for tag, attrs in page.tags if tag == "table"}
    drawn = {attrs["data-name"] for tag, attrs in page.tags if tag == "figure"}
    without_numbers = {"curation-1"}
    assert set(links) == {f"{name}.csv" for name in shown | drawn - without_numbers}
    lines = unquote(links["relearning-1.csv"].partition(",")[2]).splitlines()
    assert lines[0] == "series,x,value,low,high"
    assert len(lines) == 21


def test_anchors_lead_somewhere_and_ids_are_unique(page):
    assert len(page.ids) == len(set(page.ids))
    targets = {resource[1:] for resource in page.resources if resource.startswith("#")}
    assert targets <= set(page.ids)


def test_page_is_accessible(page):
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(headings)), "a level is skipped"
    for tag, attrs in page.tags:
        if tag == "img":
            assert attrs["alt"]
        if tag == "svg":
            assert attrs.get("aria-label") or attrs.get("aria-hidden") == "true"
        if tag == "th":
            assert attrs["scope"] in ("col", "row", "rowgroup")
    assert dict(page.tags)["html"]["lang"] == "en"


def test_sections_are_there(page):
    wanted = {"short", "results", "relearning", "prompts", "landscape", "gallery", "training", "curation"}
    assert wanted | {"selection", "reading", "provenance"} <= set(page.ids)


def test_hallucinated_words_are_marked_not_by_colour_alone(page, written):
    marks = [attrs for tag, attrs in page.tags if tag == "mark" and "title" in attrs]
    assert marks
    assert all(attrs["title"].endswith(": not in the picture") for attrs in marks)
    assert "".join(page.text).count("(not in the picture)") == len(marks)
    css = (
        (written / "report.html")
        .read_text(encoding="utf-8")
        .partition("mark.invented {")[2]
        .partition("}")[0]
    )
    assert "font-weight: 700" in css
    assert "text-decoration: underline" in css


def test_three_forms_hold_the_same_numbers(written, page):
    report = files.read_json(written / "report.json")
    rows = report["tables"]["results"]["rows"]
    assert len(rows) == 25
    markdown = (written / "report.md").read_text(encoding="utf-8")
    text = "".join(page.text)
    for row in rows:
        chair = files.read_json(written / "metrics" / row["run"] / f"{row['key']}.json")["chair"]
        cell = row["cells"]["chair_s"]
        assert cell == {"value": chair["chair_s"], "interval": chair["intervals"]["chair_s"]}
        shown = f"{cell['interval'][0]:.1f}–{cell['interval'][1]:.1f}"
        assert shown in markdown
        assert shown in text
    assert report["headline"]["text"] in markdown
    assert report["missing"] == []
    assert report["sources"]["metrics/sare/origin.json"] == files.hash_file(
        written / "metrics/sare/origin.json"
    )


def test_same_files_give_the_same_bytes(written, truth):
    names = ("report.html", "report.json", "report.md")
    before = [(written / name).read_bytes() for name in names]
    write(written, truth=truth, images_dir=written / "data" / "images")
    assert [(written / name).read_bytes() for name in names] == before


def test_text_from_models_and_files_is_escaped(bare, tmp_path):
    folder = shutil.copytree(bare, tmp_path / "run")
    evil = 'A dog <script>alert(1)</script> & "more"'
    record = {"image_id": 1, "image": "../x.png", "text": evil, "finish_reason": "stop"}
    files.write_jsonl(folder / "answers/base/origin/captions.jsonl", [record])
    files.write_json(folder / "config.json", {"name": "</table><script>"})
    text = write(folder).read_text(encoding="utf-8")
    assert re.findall("<script", text) == ["<script"], "the page's own is the only one"
    assert evil in "".join(Page(text).text)


def test_the_little_that_there_is_makes_a_page(bare, tmp_path):
    folder = shutil.copytree(bare, tmp_path / "run")
    found = Page(write(folder).read_text(encoding="utf-8"))
    text = "".join(found.text)
    assert "so the question is open." in text
    assert "loss landscape (landscape.json)" in text
    assert "relearning" not in found.ids
    assert "not run" not in text
    assert (
        "Without numbers: Base model (relearn 60, relearn 100, relearn 140, adversarial prompt); EFUF;"
        in text
    )
    assert "not run" not in (folder / "report.md").read_text(encoding="utf-8")


def test_terminal_table(workdir):
    text = table_text(workdir)
    assert text.startswith(
        "After relearning with 140 samples, SARE hallucinates in fewer captions than EFUF: "
    )
    lines = text.splitlines()[1:]
    assert max(map(len, lines)) <= 120
    number = files.read_json(workdir / "metrics/sare/relearn_60.json")["chair"]["chair_s"]
    sare = lines[lines.index("SARE") :]
    assert f"{number:.1f} [" in next(line for line in sare if "relearn 60" in line)
    assert "Not measured: Human_S, Human_I, Info." in text


CONFIG = {
    "runs": {
        "dense": {"objective": "ascent", "rho": 0.2},
        "efuf": {"objective": "ascent", "rho": 0.0, "neg_weight": 0.7},
        "sare": {"objective": "ascent", "rho": 0.05, "neg_weight": 0.7},
        "plain": {"objective": "unlikelihood", "rho": 0.0},
        "flat": {"objective": "unlikelihood", "rho": 0.1},
    },
    "run_labels": {
        "base": "base model",
        "efuf": "EFUF (Eq. 1)",
        "sare": "SARE",
        "plain": "U",
        "flat": "U + SAM",
    },
    "attacks": {
        "adversarial": {"kind": "prompt", "num_samples": 60},
        "relearn_140": {"kind": "relearn", "num_samples": 140},
        "relearn_60": {"kind": "relearn", "num_samples": 60},
    },
    "report": {"baseline": "efuf", "ours": "sare", "matched_attack": "relearn_140", "gallery": 3},
}


def test_spec_of_a_config():
    spec = spec_of(CONFIG)
    assert [run.key for run in spec.runs] == ["base", "efuf", "sare", "dense", "plain", "flat"]
    assert spec.label("efuf") == "EFUF (Eq. 1)"
    assert "ρ 0.05" in spec.run("sare").description
    assert [(setting.key, setting.samples) for setting in spec.settings] == [
        ("origin", 0),
        ("relearn_60", 60),
        ("relearn_140", 140),
        ("adversarial", None),
    ]
    assert spec.pairs == (("plain", "flat"),)
    assert spec.gallery_images == 3


def test_relearnings_at_another_rate_or_of_all_samples_are_off_the_curve():
    usual, fast = {"learning_rate": 1e-5}, {"learning_rate": 4e-5}
    attacks = {
        "few": {"kind": "relearn", "num_samples": 60, "adamw": usual, "runs": "efuf"},
        "many": {"kind": "relearn", "num_samples": 140, "adamw": usual, "runs": ""},
        "all": {"kind": "relearn", "num_samples": 0, "adamw": usual},
        "fast": {"kind": "relearn", "num_samples": 140, "adamw": fast},
    }
    found = {setting.key: setting.samples for setting in spec_of(CONFIG | {"attacks": attacks}).settings}
    assert found == {"origin": 0, "few": 60, "many": 140, "all": None, "fast": None}


def test_attacks_sort_with_their_numbers_as_numbers():
    attacks = {f"lora_{n}": {"kind": "lora"} for n in (100, 140, 60)} | {"few": {"kind": "prompt"}}
    keys = [setting.key for setting in spec_of(CONFIG | {"attacks": attacks}).settings]
    assert keys == ["origin", "few", "lora_60", "lora_100", "lora_140"]


def test_spec_of_no_config_is_the_default():
    assert spec_of({}) == ReportSpec(runs=(spec_of({}).runs))
    assert spec_of({}).runs == ReportSpec().runs


def test_command_line_finds_images_and_annotations_in_the_workdir(written, capsys):
    before = (written / "report.html").read_bytes()
    (written / "report.html").unlink()
    main([str(written)])
    assert (written / "report.html").read_bytes()[:2000] == before[:2000]
    assert b'<mark class="invented" title=' in (written / "report.html").read_bytes()
    assert f"report: {written / 'report.html'}" in capsys.readouterr().out
    main([str(written), "--truth", str(written / "data" / "annotations")])
    assert (written / "report.html").read_bytes()[:2000] == before[:2000]


def test_command_line_reports_a_mistake_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sare_jax.report", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/metrics: no result of any run")
    assert done.stderr.count("\n") == 1


def test_json_is_strict(written):
    json.loads(
        (written / "report.json").read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name)
    )


def test_frontiers_stand_on_the_page_and_make_its_headline(tmp_path):
    folder = make_frontier(tmp_path / "run")
    config = files.read_json(folder / "config.json")
    found = frontier(
        [folder], config["report"]["frontier"]["methods"], "relearn_140", (90.0,), "efuf", draws=50
    )
    write_frontier(found, folder, "robust", 1.0)
    page = Page(write(folder, spec_of(config)).read_text(encoding="utf-8"))
    assert "frontier" in page.ids
    drawn = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg" and "aria-label" in attrs]
    assert sum("by recall before it. EFUF (Eq. 1)" in label for label in drawn) == 2
    report = files.read_json(folder / "report.json")
    assert report["headline"]["text"].startswith(
        "At a recall of 90 before the attack, Robust hallucinates in"
    )
    assert "At a recall of 90 the attack adds" in report["qualification"]
    assert {"frontier", "frontier_areas", "frontier_points"} <= set(report["tables"])
    assert "At a recall of 90 before" in (folder / "report.md").read_text(encoding="utf-8")
    assert any("the curve of Robust lies below" in item["text"] for item in report["findings"])


def test_of_a_method_with_a_frontier_the_tables_show_the_first_seed():
    keys = [(name, w, seed) for name in "ab" for w in (0, 1) for seed in (3, 4)]
    runs = {f"{name}_w{w}_s{seed}": {"seed": seed} for name, w, seed in keys}
    config = {"runs": runs | {"other": {}}, "report": {"frontier": {"methods": {"a": "w", "b": "w"}}}}
    spec = spec_of(config)
    shown = [f"{name}_w{w}_s3" for name in "ab" for w in (0, 1)]
    assert [run.key for run in spec.runs] == ["base", *shown, "other"]
    assert spec.pairs == ()
