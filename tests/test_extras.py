"""What each extra brings is what its modules import, and without it one line says what to install."""

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sare_jax.__main__ import COMMANDS
from sare_jax.extras import extra_of

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DYNAMIC = PYPROJECT["tool"]["setuptools"]["dynamic"]
DISTRIBUTIONS = importlib.metadata.packages_distributions()
BROUGHT_ALONG = {"ml-dtypes": "jax", "markupsafe": "jinja2"}  # by what is named


def requirements(files: Sequence[str]) -> list[Requirement]:
    lines = [line for name in files for line in (ROOT / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]


def names(files: Sequence[str]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in requirements(files)}


BASE = names(DYNAMIC["dependencies"]["file"])
EXTRAS = {extra: names(group["file"]) for extra, group in DYNAMIC["optional-dependencies"].items()}
MODULES = sorted([*(ROOT / "sare_jax").rglob("*.py"), *(ROOT / "configs").glob("*.py")])


def imported(path: Path) -> Iterator[str]:
    """What a module imports from elsewhere, anywhere in it: first names, of `google` the whole."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [node.module]
        else:
            continue
        for name in found:
            first = name.split(".")[0]
            if first not in sys.stdlib_module_names and first != "sare_jax":
                yield first


def uncovered(path: Path) -> Iterator[str]:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removeprefix("sare_jax.")
    extra = extra_of(module)
    has = BASE | (EXTRAS[extra] if extra else set())
    for name in imported(path):
        brought = {canonicalize_name(distribution) for distribution in DISTRIBUTIONS[name]}
        brought |= {BROUGHT_ALONG[name] for name in brought & set(BROUGHT_ALONG)}
        if not brought & has:
            yield f"{module} imports {name}, which is not in extra {extra}"


def test_what_a_module_imports_is_in_its_extra():
    assert len(MODULES) > 300
    assert [line for path in MODULES for line in uncovered(path)] == []


def test_bounds_stand_once_and_requirements_txt_has_all_but_what_few_need():
    fragments = sorted(f"requirements/{path.name}" for path in (ROOT / "requirements").glob("*.txt"))
    lines = [(r.name, str(r.marker)) for r in requirements([f for f in fragments if "gpu" not in f])]
    assert len(lines) == len(set(lines))
    included = re.findall(r"^-r (\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert not requirements(["requirements.txt"])
    apart = {f"requirements/{name}.txt" for name in ("gpu", "ray", "tensorboard", "wandb")}
    assert {*included, *apart} == set(fragments)
    assert names(included) == BASE | EXTRAS["all"]
    parts = (EXTRAS[extra] for extra in ("models", "curation", "evaluation", "report"))
    assert EXTRAS["all"] == set.union(*parts)


def without(allowed: set[str], code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """Runs code where only some distributions can be imported, with all that they need."""
    allowed = _closure(allowed)
    blocked = sorted(
        name for name, by in DISTRIBUTIONS.items() if not {canonicalize_name(d) for d in by} & allowed
    )
    blocker = (
        "import sys\n"
        "class Blocker:\n"
        f"    names = {blocked!r}\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in self.names:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", blocker + code, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _closure(distributions: set[str]) -> set[str]:
    seen, todo = set(), list(distributions)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        todo += [
            canonicalize_name(r.name)
            for r in map(Requirement, needs)
            if r.marker is None or r.marker.evaluate({"extra": ""})
        ]
    return seen


def test_targeted_sam_runs_on_the_package_alone(tmp_path):
    readme = (ROOT / "README.md").read_text()
    example = next(
        block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "flax" not in block
    )
    assert "targeted_sam" in example
    heavy = "assert not {'torch', 'transformers', 'spacy', 'flax', 'rich', 'nltk'} & set(sys.modules)\n"
    ended = without(BASE, f"{example}\n{heavy}", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout


SARE = "from sare_jax.__main__ import main; main()"


@pytest.fixture
def captions(tmp_path):
    rows = [{"image_id": 1, "caption": "A dog and a cat."}, {"image_id": 2, "caption": "Two dogs."}]
    (tmp_path / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "truth.json").write_text(json.dumps({"1": ["dog"], "2": ["dog"]}))
    return ["--captions", "captions.jsonl", "--truth", "truth.json"]


def test_chair_runs_with_the_extra_of_evaluation(captions, tmp_path):
    ended = without(BASE | EXTRAS["evaluation"], SARE, "chair", *captions, "--json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["chair_s"] == pytest.approx(50)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["chair"], r"error: sare chair needs \w+: pip install 'sare_jax\[evaluation\]'"),
        (["run", "--config=demo_sare"], r"error: sare run needs \w+: pip install 'sare_jax\[all\]'"),
        (["export", "--help"], r"error: sare export needs \w+: pip install 'sare_jax\[models\]'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_without_its_extra_a_command_is_one_line(arguments, line, captions, tmp_path):
    if arguments == ["chair"]:
        arguments = ["chair", *captions]
    ended = without(BASE, SARE, *arguments, cwd=tmp_path)
    assert re.fullmatch(f"{line}\n", ended.stderr)
    assert ended.returncode == 2


@pytest.mark.parametrize("command", {c.target: name for name, c in COMMANDS.items()}.values())
def test_a_command_starts_with_the_extras_that_its_line_names(command, tmp_path):
    """One installation is enough: the report reads images, and needs more than what brings these."""
    line = without(BASE, SARE, command, "--help", cwd=tmp_path).stderr
    named = re.fullmatch(rf"error: sare {command} needs \w+: pip install 'sare_jax\[(.*)\]'\n", line)
    assert named, line
    brought = set.union(BASE, *(EXTRAS[extra] for extra in named[1].split(",")))
    started = without(brought, SARE, command, "--help", cwd=tmp_path)
    assert started.stdout.startswith(f"usage: sare {command}") or "flags:" in started.stdout, started.stderr


@pytest.mark.parametrize(
    "package", sorted(path.parent.name for path in (ROOT / "sare_jax").glob("*/__main__.py"))
)
def test_python_m_without_extras_is_one_line(package, tmp_path):
    """`python -m` imports the package before the command, so the package imports nothing by itself."""
    code = f"import runpy; runpy.run_module('sare_jax.{package}', run_name='__main__', alter_sys=True)"
    ended = without(BASE, code, "--help", cwd=tmp_path)
    line = rf"error: {package} needs \w+: pip install 'sare_jax\[[a-z,]+\]'\n"
    assert re.fullmatch(line, ended.stderr), ended.stderr
    assert ended.returncode == 2


def test_from_python_a_missing_extra_is_named_too(tmp_path):
    ended = without(BASE, "import sare_jax; sare_jax.load('folder')", cwd=tmp_path)
    assert ended.stderr.splitlines()[-1] == "sare_jax.load needs PIL: pip install 'sare_jax[models]'"


def test_an_extra_is_that_of_the_module_which_lacks_something(captions, tmp_path):
    """Perplexity is a metric, and its language model runs on what the extra of models brings."""
    perplexity = ["perplexity", *captions[:2], "--model", "gpt2"]
    ended = without(BASE | EXTRAS["evaluation"], SARE, *perplexity, cwd=tmp_path)
    line = "error: sare perplexity needs torch: pip install 'sare_jax[evaluation,models]'"
    assert ended.stderr.splitlines() == [line]
    assert ended.returncode == 2


def test_what_is_missing_from_elsewhere_stays_an_error(tmp_path):
    (tmp_path / "mine.py").write_text("import not_installed_anywhere\n")
    code = (
        "from sare_jax.errors import UserError\n"
        "from sare_jax.extensions import resolve\n"
        "try: resolve('mine:thing', {}, 'config.x')\n"
        "except UserError as error: print(error)\n"
    )
    ended = without(BASE, code, cwd=tmp_path)
    assert (
        "config.x: 'mine:thing' cannot be imported (No module named 'not_installed_anywhere')" in ended.stdout
    )
