"""What the tree cites exists: sections of docs/protocols.md, cases of docs/cases.md, links of all pages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (".ci", "benchmarks", "configs", "docs", "sare_jax", "tests")
SUFFIXES = {"", ".cff", ".css", ".html", ".jinja", ".js", ".md", ".py", ".toml", ".txt", ".yaml"}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])

_CITATION = re.compile(
    r"\bprotocols(?:\.md)?,?[\s#]+(\d+(?:\.\d+)?(?:(?:,| and|, and| to)[\s#]+\d+(?:\.\d+)?)*)"
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_ELSEWHERE = re.compile(r"\.\./shared|(?<![\w.])/(?:work|home|root|Users|mnt|scratch)/[\w.-]+")


def texts() -> dict[Path, str]:
    """Text of each source file and page."""
    files = [path for path in ROOT.iterdir() if path.is_file()]
    files += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return {
        path: path.read_text(encoding="utf-8")
        for path in sorted(files)
        if path.suffix in SUFFIXES and path.name != ".git" and "__pycache__" not in path.parts
    }


def prose(page: Path) -> str:
    """A page without its blocks and spans of code."""
    return re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)


def anchor(heading: str) -> str:
    """As GitHub makes it: small letters, no marks, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_cited_protocols_are_headings():
    known = {heading.split()[0].rstrip(".") for heading in headings(ROOT / "docs" / "protocols.md")}
    cited = {
        (str(path.relative_to(ROOT)), number)
        for path, text in texts().items()
        for numbers in _CITATION.findall(text)
        for number in re.findall(r"\d+(?:\.\d+)?", numbers)
    }
    assert len(cited) > 20
    assert sorted(place for place in cited if place[1] not in known) == []


def test_cited_cases_are_in_their_table():
    known = set(
        re.findall(
            r"^\| ([A-Z][A-Z0-9]{1,2}-\d\d) \|", (ROOT / "docs" / "cases.md").read_text(), re.MULTILINE
        )
    )
    groups = "|".join(sorted({case.partition("-")[0] for case in known}))
    pattern = re.compile(rf"(?<![A-Za-z0-9])({groups})[-_](\d\d)(?!\d)", re.IGNORECASE)
    cited = {
        f"{group.upper()}-{number}"
        for path, text in texts().items()
        if path.suffix == ".py"
        for group, number in pattern.findall(text)
    }
    assert sorted(cited - known) == []
    assert sorted(known - cited) == [], "cases without a test"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_resolve(page):
    for link in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue  # another site
        name, _, place = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link}: no such file"
        if place:
            assert place in {anchor(heading) for heading in headings(target)}, f"{link}: no such heading"


def test_no_text_names_a_path_of_another_machine():
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path, text in texts().items()
        for match in _ELSEWHERE.finditer(text)
    ]
    assert found == []
