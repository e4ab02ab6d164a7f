import re
import shutil

import pytest

from sare_jax import files
from sare_jax.errors import UserError
from sare_jax.evaluation.compare import compare
from sare_jax.report import ReportSpec, RunSpec
from sare_jax.report.command import main
from sare_jax.report.side_by_side import side_by_side

SPEC = ReportSpec()


@pytest.fixture(scope="module")
def other(workdir, tmp_path_factory):
    """The workdir with EFUF and SARE in each other's place, and without one row."""
    folder = tmp_path_factory.mktemp("other") / "run"
    folder.mkdir()
    for a, b in (("base", "base"), ("efuf", "sare"), ("sare", "efuf")):
        shutil.copytree(workdir / "metrics" / a, folder / "metrics" / b)
    (folder / "metrics/sare/adversarial.json").unlink()
    return folder


def test_differences_are_those_of_compare(workdir, other, tmp_path):
    main([str(workdir), str(other), "--out", str(tmp_path / "both.html")])
    text = (tmp_path / "both.html").read_text(encoding="utf-8")
    rows = [files.read_json(folder / "metrics/sare/relearn_140.json")["chair"] for folder in (workdir, other)]
    found = compare({"chair": rows[0]}, {"chair": rows[1]}, draws=200, seed=0)["metrics"]["chair.chair_s"]
    assert f'data-value="{found["difference"]:.6g}"' in text
    low, high = found["interval"]
    assert f"<b>+{found['difference']:.1f}</b><small>{low:.1f}–{high:.1f}</small>" in text
    table = text[text.index('id="table-differences"') :].partition("</table>")[0]
    sare = table.partition("SARE")[2]
    assert "relearn 60" in sare
    assert "adversarial prompt" not in sare, "B has no such row"
    assert "Unlikelihood" not in table


def test_it_is_one_page_of_its_own_and_equal_for_equal_files(workdir, other, tmp_path):
    pages = [
        side_by_side((workdir, SPEC), (other, SPEC), tmp_path / f"{i}.html").read_text(encoding="utf-8")
        for i in range(2)
    ]
    assert pages[0] == pages[1]
    ids = re.findall(r'\bid="([^"]*)"', pages[0])
    assert len(ids) == len(set(ids))
    assert pages[0].count("After relearning with 140 samples, SARE hallucinates") == 2


def test_a_run_against_itself_differs_in_nothing(workdir, tmp_path):
    text = side_by_side((workdir, SPEC), (workdir, SPEC), tmp_path / "same.html").read_text(encoding="utf-8")
    table = text[text.index('id="table-differences"') :].partition("</table>")[0]
    assert set(re.findall(r'data-value="([^"]*)"', table)) == {"0"}
    assert "<b>" not in re.sub(r"<b style[^>]*>", "", table)


def test_other_rules_are_named(workdir, other, tmp_path):
    folder = shutil.copytree(other, tmp_path / "run")
    path = folder / "metrics/sare/origin.json"
    result = files.read_json(path)
    result["chair"]["rule"] = "another one"
    files.write_json(path, result)
    text = side_by_side((workdir, SPEC), (folder, SPEC), tmp_path / "x.html").read_text(encoding="utf-8")
    assert "Not measured alike" in text
    assert "another one" in text


def test_nothing_in_common_is_one_line(workdir, tmp_path):
    files.write_json(tmp_path / "run/metrics/robust/origin.json", {"chair": {"chair_s": 1.0}})
    spec = ReportSpec(runs=(RunSpec("robust", "Robust"),))
    with pytest.raises(UserError, match=r"no run and setting in common: .*robust/origin; give workdirs"):
        side_by_side((workdir, SPEC), (tmp_path / "run", spec), tmp_path / "x.html")
