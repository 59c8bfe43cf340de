"""Laws about the structure of the code: imports, names of modules, places of tests."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ich3d"
TESTS = ROOT / "tests"

NOT_MIRRORED = ("laws", "notebooks", "docs", "helpers", "scripts", "slicer")
"""Folders of tests that concern no single module."""

INITS = sorted(PACKAGE.rglob("__init__.py"))

TEST_FILES = sorted(
    path
    for path in TESTS.glob("*/**/test_*.py")
    if path.relative_to(TESTS).parts[0] not in NOT_MIRRORED
)
"""Test files below a folder; those in `tests` itself concern the whole package."""


def test_packages_import_only_what_comes_before_them() -> None:
    """The order is written down in pyproject.toml."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_packages_for_data_import_no_network_library() -> None:
    script = (
        "import sys, ich3d.dicom.index, ich3d.phantom, ich3d.sources, ich3d.prepare.build\n"
        "print(sorted(set(sys.modules) & {'torch', 'monai'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("init", INITS, ids=lambda path: path.parent.name)
def test_no_module_has_the_name_of_an_exported_function(init: Path) -> None:
    """`from ich3d.x import y` would otherwise mean the module or the function, by chance."""
    modules = {path.stem for path in init.parent.glob("*.py")}
    packages = {path.parent.name for path in init.parent.glob("*/__init__.py")}
    exported = names_in(ast.parse(init.read_text(encoding="utf-8")))
    assert exported.isdisjoint(modules | packages)


def names_in(tree: ast.Module) -> set[str]:
    """Names that a module defines or imports from other modules, and those in its `__all__`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names |= set(ast.literal_eval(node.value))
    return names


@pytest.mark.parametrize("test_file", TEST_FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_a_test_file_is_named_after_its_module(test_file: Path) -> None:
    folder = test_file.relative_to(TESTS).parent
    module = PACKAGE / folder / f"{test_file.stem.removeprefix('test_')}.py"
    assert module.is_file(), f"{test_file.relative_to(ROOT)} tests no module of that name"


@pytest.mark.parametrize(
    "test_file", sorted(TESTS.rglob("test_*.py")), ids=lambda path: str(path.relative_to(TESTS))
)
def test_no_test_can_pass_without_an_assertion(test_file: Path) -> None:
    """Each test asserts, expects an error, or calls a function of its file that does."""
    tree = ast.parse(test_file.read_text(encoding="utf-8"))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    without = [
        name
        for name, function in functions.items()
        if name.startswith("test_") and not asserts(function, functions)
    ]
    assert without == []


def asserts(
    function: ast.FunctionDef,
    functions: dict[str, ast.FunctionDef],
    callers: frozenset[str] = frozenset(),
) -> bool:
    """Whether a function asserts something, itself or through others of its file."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name.startswith("assert") or name in ("raises", "warns"):
                return True
            if name in functions.keys() - callers and asserts(
                functions[name], functions, callers | {function.name}
            ):
                return True
    return False
