"""The house's layers: a part imports from its own and from those below it (CONTRIBUTING.md), at the top or within."""

from __future__ import annotations

import ast
from pathlib import Path

import cytodistill

LAYERS = (
    ("cli", "commands", "demo", "terminal", "__main__"),
    ("serve", "reproduce", "audit", "bench"),
    ("export", "evaluation", "report", "explain"),
    ("infer",),
    ("train",),
    ("distill", "estimators", "models"),
    ("data", "formats", "metrics"),
    ("recipe", "files", "errors"),
)
HEIGHT = {name: -depth for depth, names in enumerate(LAYERS) for name in names}
SOURCE = Path(cytodistill.__file__).parent


def imported(file: Path) -> set[str]:
    """The parts of this package that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            inside = node.module == "cytodistill"
            parts = [name.name for name in node.names if name.name in HEIGHT]  # the others are the public interface
            names = [f"cytodistill.{name}" for name in parts] if inside else [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("cytodistill.")}
    return found


def test_imports_run_downward():
    upward = []
    for file in sorted(SOURCE.rglob("*.py")):
        if file.parent == SOURCE and file.stem == "__init__":
            continue
        part = file.relative_to(SOURCE).parts[0].removesuffix(".py")
        upward += [
            f"{file.relative_to(SOURCE)} imports {other}" for other in imported(file) if HEIGHT[other] > HEIGHT[part]
        ]
    assert not upward
