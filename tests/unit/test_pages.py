"""What pages and package docstrings say of the code is compared with the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BRIDGE = ROOT / "bridge"
# Said between two modules, and never shown to anybody: what comes of it has a code of its own.
BETWEEN_MODULES = {"lease_expired", "image_too_many_pixels"}
LEVELS = {"error", "warning", "info"}
# So many modules are seen at a glance.
FEW = 5


@pytest.mark.parametrize(
    "package",
    [
        folder
        for folder in sorted({path.parent for path in BRIDGE.rglob("*.py")})
        if len(list(folder.glob("*.py"))) > FEW
    ],
    ids=lambda folder: str(folder.relative_to(ROOT)),
)
def test_a_package_says_what_its_modules_are(package: Path) -> None:
    told = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    modules = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__"}
    assert {name for name in modules if not re.search(rf"\b{name}\b", told)} == set()


def test_every_code_of_a_fault_is_explained() -> None:
    pages = "".join(
        (ROOT / "docs" / page).read_text() for page in ("operations.md", "lifecycles.md")
    )
    used = {
        code
        for path in BRIDGE.rglob("*.py")
        if "sandbox" not in path.parts
        for code in _codes(ast.parse(path.read_text()))
    }
    assert len(used) > 80
    assert {code for code in used - BETWEEN_MODULES if f"`{code}`" not in pages} == set()


def test_every_explained_code_exists() -> None:
    page = (ROOT / "docs" / "operations.md").read_text().partition("## Codes of faults")[2]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    explained = {code for row in rows for code in re.findall(r"`(\w+)`", row)}
    sources = [*BRIDGE.rglob("*.py"), *(ROOT / "supabase" / "migrations").glob("*.sql")]
    text = "".join(path.read_text() for path in sources)
    assert len(explained) > 80
    assert {code for code in explained if not re.search(rf"[\"']{code}[\"']", text)} == set()


def _codes(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        match node:
            case ast.ClassDef():
                for statement in node.body:
                    match statement:
                        case ast.Assign(targets=[ast.Name(id="code")], value=value):
                            yield from _texts(value)
            case ast.Call(func=ast.Name(id="Refusal" | "_Trouble"), args=[first, *_]):
                yield from _texts(first)
            case ast.Call(
                func=ast.Attribute(attr="complain" | "_complain" | "_fail"), args=[first, *_]
            ):
                yield from _texts(first)
            case ast.Call(func=ast.Attribute(attr="report"), args=arguments):
                for each in arguments:
                    yield from _texts(each)
        if isinstance(node, ast.keyword) and node.arg in ("code", "error_code"):
            yield from _texts(node.value)


def _texts(node: ast.AST) -> Iterator[str]:
    """The names that an expression may give; levels of events are none."""
    match node:
        case ast.IfExp():
            yield from _texts(node.body)
            yield from _texts(node.orelse)
        case ast.Constant(value=str(text)) if re.fullmatch(r"[a-z0-9_]+", text):
            if text not in LEVELS:
                yield text
