"""Reads the meaning of settings from beside their fields, so that help texts and code agree."""

import ast
import dataclasses
import inspect
import textwrap


def meanings(kind: type) -> dict[str, str]:
    """Field → the text beside it, on one line; empty where there is none.

    Beside a field stands either a string right below it or comments that begin with `#:` right above it.

    Args:
      kind: a dataclass that is defined in a file, whose source `inspect` can read.
    """
    source = textwrap.dedent(inspect.getsource(kind))
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    lines, body = source.splitlines(), definition.body
    texts = {field.name: "" for field in dataclasses.fields(kind)}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in texts:
            text = _string(after) or _comment_above(lines, node.lineno - 1)
            texts[node.target.id] = " ".join(text.split())
    return texts


def _string(node: ast.stmt | None) -> str:
    """The text of a statement that is nothing but a string; empty for others."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return ""
    return node.value.value if isinstance(node.value.value, str) else ""


def _comment_above(lines: list[str], line: int) -> str:
    """The `#:` comments right above a line, given by its index."""
    first = line
    while first and lines[first - 1].strip().startswith("#:"):
        first -= 1
    return " ".join(text.strip().removeprefix("#:") for text in lines[first:line])
