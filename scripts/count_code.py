"""Count what makes Python code easy or hard to read, and print it as a markdown table.

    python scripts/count_code.py [FOLDER]        (default: ich3d)

FOLDER is a package. A room is a package directly below it, with everything inside. Room A has an
import arrow to room B if any module of A imports from B, at the top of a file or in a function;
only absolute imports are read.

Public names are functions and classes at the top of a module, and methods of such classes, whose
names do not start with an underscore. Function lengths are in lines, from `def` to the end,
without decorators and docstring.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Function = ast.FunctionDef | ast.AsyncFunctionDef

LONG_BODY = 15
"""A function body with more lines than this should hold a blank line."""

SHAPE_OR_UNIT = re.compile(
    r"""
      \( (?:[A-Z]|n|\d+|\.{3}) (?: \) | ,[ )] | [ ][*+-] )    # (Z, Y, X), (N,), (..., K), (4, 4)
    | \b (?:u?int(?:8|16|32|64) | float(?:16|32|64) | bfloat16 | bf16 | fp32) \b
    | \b (?:mm | cm2? | ml | HU | Hounsfield | LPS | [KMG]i?B) \b
    | \b (?:(?:milli)?metres? | degrees? | seconds) \b
    | \b in[ ](?:pixels | bytes | slices) \b
    | \b (?:probabilit(?:y|ies) | logits?) \b | \b 0\.\.1 \b
    """,
    re.VERBOSE,
)
"""A docstring that this regular expression finds something in names a shape or a unit."""


@dataclass(frozen=True)
class Module:
    """One parsed file.

    Attributes:
        parts: its path below the folder, e.g. `("core", "types")`.
        text: the source code.
        tree: its syntax tree.
    """

    parts: tuple[str, ...]
    text: str
    tree: ast.Module


def main() -> None:
    """Print the table for the folder on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("ich3d"), metavar="FOLDER")
    folder: Path = parser.parse_args().folder

    modules = read_modules(folder)
    if not modules:
        parser.error(f"{folder} holds no Python files")
    sys.stdout.write(markdown_table(count(modules, folder.name)) + "\n")


def count(modules: Sequence[Module], package: str) -> dict[str, str]:
    """All counts of a package, as text by name."""
    arrows = room_arrows(modules, package)
    circles = [" ".join(sorted(circle)) for circle in import_circles(arrows)]
    docstrings = [text for module in modules for text in public_docstrings(module.tree)]
    functions = [function for module in modules for function in functions_of(module.tree)]
    lengths = sorted(function_length(function) for function in functions)
    long_bodies = [
        lines for module in modules for lines in bodies(module) if len(lines) > LONG_BODY
    ]
    lines = [line for module in modules for line in module.text.splitlines() if line.strip()]
    n_comments = sum(own_line_comments(module.text) for module in modules)

    return {
        "rooms": str(len(arrows)),
        "import arrows between rooms": str(sum(map(len, arrows.values()))),
        "import circles among rooms": "; ".join(sorted(circles)) or "none",
        "files": str(len(modules)),
        "non-blank lines": str(len(lines)),
        "public docstrings that name a shape or a unit": percent(
            sum(bool(SHAPE_OR_UNIT.search(text)) for text in docstrings), len(docstrings)
        ),
        "non-blank lines that are comments": percent(n_comments, len(lines), digits=1),
        f"function bodies over {LONG_BODY} lines with a blank line": percent(
            sum("" in body for body in long_bodies), len(long_bodies)
        ),
        "line width, 90th percentile": str(percentile(sorted(map(len, lines)), 90)),
        "function length: median, 90th percentile, maximum": (
            f"{median(lengths):g}, {percentile(lengths, 90)}, {lengths[-1]}" if lengths else "-"
        ),
    }


def read_modules(folder: Path) -> list[Module]:
    """All Python files below a folder, sorted by path."""
    modules = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        parts = path.relative_to(folder).with_suffix("").parts
        modules.append(Module(parts, text, ast.parse(text, str(path))))
    return modules


def room_arrows(modules: Sequence[Module], package: str) -> dict[str, set[str]]:
    """For each room, the other rooms that it imports from."""
    rooms = {module.parts[0] for module in modules if module.parts[1:] == ("__init__",)}
    arrows: dict[str, set[str]] = {room: set() for room in rooms}
    for module in modules:
        room = module.parts[0]
        if room in rooms:
            imported = {name.split(".")[1] for name in imports(module, package) if "." in name}
            arrows[room] |= (imported & rooms) - {room}
    return arrows


def imports(module: Module, package: str) -> Iterator[str]:
    """Dotted names that a module imports from its own package, e.g. `ich3d.core.types`."""
    for node in ast.walk(module.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] == package)


def import_circles(arrows: Mapping[str, set[str]]) -> list[set[str]]:
    """Sets of rooms of which each reaches every other: strongly connected, two rooms or more."""
    reached = {room: _reachable(room, arrows) for room in arrows}
    circles: list[set[str]] = []
    for room in arrows:
        circle = {other for other in reached[room] if room in reached[other]}
        if len(circle) > 1 and circle not in circles:
            circles.append(circle)
    return circles


def _reachable(start: str, arrows: Mapping[str, set[str]]) -> set[str]:
    """Rooms that can be reached from `start` over one arrow or more."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for room in arrows[waiting.pop()] - reached:
            reached.add(room)
            waiting.append(room)
    return reached


def public_docstrings(tree: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Docstrings of the public functions, classes and methods that have one."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            docstring = ast.get_docstring(node)
            if docstring is not None:
                yield docstring
            if isinstance(node, ast.ClassDef):
                yield from public_docstrings(node)


def functions_of(tree: ast.Module) -> list[Function]:
    """All functions and methods, also private and nested ones."""
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def function_length(function: Function) -> int:
    """Lines from `def` to the end, without the docstring."""
    docstring = _docstring_node(function)
    n_docstring = 0
    if docstring is not None:
        n_docstring = (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return (function.end_lineno or function.lineno) - function.lineno + 1 - n_docstring


def bodies(module: Module) -> Iterator[list[str]]:
    """The lines of each function's body, stripped, from the first statement after the docstring."""
    lines = module.text.splitlines()
    for function in functions_of(module.tree):
        statements = function.body[1:] if _docstring_node(function) else function.body
        if statements:
            body = lines[statements[0].lineno - 1 : function.end_lineno]
            yield [line.strip() for line in body]


def _docstring_node(function: Function) -> ast.expr | None:
    """The docstring's node in the syntax tree; None without a docstring."""
    first = function.body[0]
    if ast.get_docstring(function) is None or not isinstance(first, ast.Expr):
        return None
    return first.value


def own_line_comments(text: str) -> int:
    """Number of lines that hold a comment and no code."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(
        token.type == tokenize.COMMENT and token.line.lstrip().startswith("#") for token in tokens
    )


def percentile(values: Sequence[int], rank: int) -> int:
    """The value that `rank` percent of the sorted values do not exceed (nearest rank)."""
    return values[max(0, -(-len(values) * rank // 100) - 1)]


def percent(part: int, whole: int, digits: int = 0) -> str:
    """`part` of `whole` in percent, with both numbers; a dash where `whole` is 0."""
    return f"{100 * part / whole:.{digits}f} % ({part} of {whole})" if whole else "-"


def markdown_table(counts: Mapping[str, str]) -> str:
    """A markdown table with one row for each count."""
    rows = [f"| {name} | {value} |" for name, value in counts.items()]
    return "\n".join(["| count | value |", "| --- | --- |", *rows])


if __name__ == "__main__":
    main()
