"""Who may import whom: read from the sources, so imports inside functions count too."""

import ast
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "sare_jax"
FAMILY_FOLDERS = sorted(path.parent.name for path in (ROOT / "models").glob("*/family.py"))
# What of this program a package may import besides itself and the modules of `EVERYBODY`; a package with an
# entry of its own is no part of the one around it.
EVERYBODY = (
    *("disk", "errors", "extensions", "files", "hosts", "nested", "locks", "progress", "rounding", "schema"),
    *("extras", "lazy", "online", "shipped", "unwritable"),
)
ALLOWED = {
    "optim": (),
    "objectives": (),
    "records": ("language",),
    "language": (),
    "settings": ("attacks", "curation", "evaluation.benchmarks", "evaluation.metrics", "objectives", "optim"),
    "data": ("records", "language"),
    "models": ("settings", "data.images"),
    **{f"models.{family}": ("models", "settings", "data.images", "export") for family in FAMILY_FOLDERS},
    "export": ("models", "settings", "training.checkpoints", "inference.ask", "command"),
    "inference": ("models", "settings", "data", "records.journal"),
}


def modules() -> dict[str, set[str]]:
    """Module -> the modules that it imports, with `sare_jax.` before those of this program."""
    return {_name(path): _imports(ast.parse(path.read_text())) for path in sorted(ROOT.rglob("*.py"))}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


IMPORTS = modules()


def lies_in(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"sare_jax.{package}.")


def _may(imported: str, allowed: Sequence[str], inner: Sequence[str]) -> bool:
    return any(lies_in(imported, part) for part in allowed) and not any(
        lies_in(imported, part) for part in inner
    )


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_what_the_table_allows(package):
    inner = [other for other in ALLOWED if other.startswith(f"{package}.")]
    may = (package, *ALLOWED[package], *EVERYBODY)
    wrong = [
        f"{module} imports {imported}"
        for module, there in IMPORTS.items()
        if lies_in(module, package) and not any(lies_in(module, other) for other in inner)
        for imported in there
        if lies_in(imported, "") or imported.startswith("sare_jax.")
        if not any(lies_in(imported, part) for part in may)
        or any(lies_in(imported, other) for other in inner)
    ]
    assert not wrong


@pytest.mark.parametrize("family", FAMILY_FOLDERS)
def test_a_family_is_imported_by_name_alone(family):
    """By `models.families`; the demo writes a folder that LLaVA's reads."""
    package = f"models.{family}"
    wrong = [
        f"{module} imports {imported}"
        for module, there in IMPORTS.items()
        if not lies_in(module, package) and not lies_in(module, "demo")
        for imported in there
        if lies_in(imported, package)
    ]
    assert not wrong


SHUNNED = [
    ("data", "evaluation"),
    ("curation", "evaluation"),
    *((package, road) for package in ("models", "optim", "objectives") for road in ("pipeline", "stages")),
]


@pytest.mark.parametrize(("package", "shunned"), SHUNNED)
def test_arrows_that_never_go_back(package, shunned):
    wrong = [
        f"{module} imports {imported}"
        for module, there in IMPORTS.items()
        if lies_in(module, package)
        for imported in there
        if lies_in(imported, shunned)
    ]
    assert not wrong


def test_optim_stands_on_jax_and_optax():
    others = {
        imported.split(".")[0]
        for module, there in IMPORTS.items()
        if lies_in(module, "optim")
        for imported in there
    }
    assert others - sys.stdlib_module_names <= {"jax", "optax", "sare_jax"}


def test_model_code_asks_no_backend():
    asking = [
        path.name
        for part in ("models", "inference", "training")
        for path in (ROOT / part).rglob("*.py")
        if "default_backend" in path.read_text()
    ]
    assert not asking


PAGES = [ROOT.parent / "README.md", *(ROOT.parent / "docs").glob("*.md")]


def documented() -> dict[str, set[str]]:
    """Module → the names that pages and examples import from it; those of docs/api.md with none."""
    api = re.findall(r"^::: (\S+)$", (ROOT.parent / "docs" / "api.md").read_text(), re.MULTILINE)
    found: dict[str, set[str]] = {module: set() for module in api}
    pages = [path.read_text() for path in (ROOT.parent / "examples").glob("*.py")]
    for page in PAGES:
        pages += re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    for tree in map(ast.parse, pages):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("sare_jax"):
                found.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
    return found


def test_every_package_says_what_of_it_is_public():
    packages = [_name(path) for path in sorted(ROOT.rglob("__init__.py"))]
    assert len(packages) > 30
    assert [name for name in packages if not hasattr(importlib.import_module(name), "__all__")] == []


def test_no_name_that_is_imported_when_asked_for_is_also_a_module():
    """It would be one or the other by what was imported first (`sare_jax.lazy`)."""
    lazy = [path for path in ROOT.rglob("__init__.py") if "names_of(" in path.read_text()]
    assert len(lazy) > 5
    for path in lazy:
        public = importlib.import_module(_name(path)).__all__
        assert not {entry.stem for entry in path.parent.iterdir()} & set(public), path


def test_what_pages_and_examples_show_is_public():
    shown = documented()
    assert len(shown) >= 10
    assert {"targeted_sam", "Perturbation"} & shown["sare_jax.optim"]
    for module, names in shown.items():
        imported = importlib.import_module(module)
        submodules = {
            name
            for name in names
            if hasattr(imported, "__path__") and importlib.util.find_spec(f"{module}.{name}")
        }
        if not names or names - submodules:
            assert names - submodules <= set(imported.__all__), module


def test_public_names_exist_and_stand_once():
    for name in IMPORTS:
        tree = ast.parse((ROOT.parent / _path(name)).read_text())
        if any("__all__" in ast.unparse(n) for n in tree.body if isinstance(n, ast.Assign | ast.AnnAssign)):
            module = importlib.import_module(name)
            assert all(hasattr(module, public) for public in module.__all__), name
            assert len(set(module.__all__)) == len(module.__all__), name


def _path(module: str) -> Path:
    path = Path(*module.split("."))
    return path / "__init__.py" if (ROOT.parent / path).is_dir() else path.with_suffix(".py")
