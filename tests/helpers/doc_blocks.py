"""The blocks of shell and Python in the documents, and the small world in which they run."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

RECORDS = ("docs/results.md", "docs/decisions.md")
"""What was run for a figure, on data that are not here, and code of the past: no instructions."""

SMALL = (
    "phantom.studies=6 phantom.matrix=64 phantom.thickness_mm=[10.0] prepare.folds=3 "
    "prepare.matrix=48 prepare.pixel_mm=4.8 slices.epochs=1 slices.augmented=0 context.epochs=2 "
    "context.hidden_size=16 stack.num_trees=10 report.resamples=50 precision=fp32"
)
"""Settings that make any configuration one of seconds."""

SMALL_RSNA = (
    "slices.encoder=resnet10-half slices.weights=null slices.weights_sha256=null "
    "slices.batch_size=8"
)
"""Those that RSNA's configurations need besides: a network without weights of the reader's own."""


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: its document, below the repository's root.
        line: where it begins.
        language: `bash` or `python`.
        code: its lines.
        not_run: why a test cannot run it, from a comment before it; empty where one can.
    """

    page: str
    line: int
    language: str
    code: str
    not_run: str


def instructions() -> list[str]:
    """The documents that tell a reader what to type, below the repository's root."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    return [name for name in names if name not in RECORDS]


def blocks(page: str) -> list[Block]:
    """All blocks of shell and Python of a document, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    pattern = (
        r"(?:^<!-- not run: (?P<reason>.*?) -->\n)?^```(?P<language>bash|python)\n(?P<code>.*?)^```"
    )
    return [
        Block(
            page=page,
            line=text.count("\n", 0, match.start()) + 1,
            language=match["language"],
            code=match["code"],
            not_run=match["reason"] or "",
        )
        for match in re.finditer(pattern, text, re.DOTALL | re.MULTILINE)
    ]


def ich3d_commands(code: str) -> list[list[str]]:
    """The arguments of each `ich3d` command in a block of shell."""
    joined = code.replace("\\\n", " ")
    joined = re.sub(r"<<'(\w+)'\n.*?^\1$", "", joined, flags=re.DOTALL | re.MULTILINE)
    found = []
    for line in joined.splitlines():
        command = re.split(r"[|;>]", line)[0]
        words = shlex.split(command, comments=True)
        if words[:1] == ["ich3d"]:
            found.append(words[1:])
    return found


def script(page: str) -> str:
    """A shell script that does what a reader of the page would: all its blocks, in order."""
    lines = ["set -euo pipefail"]
    for block in blocks(page):
        if block.not_run:
            continue
        lines.append(f"echo '== {block.page}, line {block.line}'")
        if block.language == "bash":
            lines.append(block.code)
        else:
            lines += ["python - <<'END_OF_PYTHON'", block.code + "END_OF_PYTHON"]
    return "\n".join([*lines, ""])


def wrapper(program: Path) -> str:
    """A program of the same name as `program` that keeps trainings small, and its cluster local.

    Exit code 3, finished but something was rejected, does not end a reader's session.
    """
    small, small_rsna = (
        " ".join(f"--set {setting}" for setting in settings.split())
        for settings in (SMALL, SMALL_RSNA)
    )
    return f"""#!/usr/bin/env bash
set -euo pipefail
arguments=("${{@/10.0.0.1:6379/local}}")
arguments=("${{arguments[@]/--nproc-per-node 8/--nproc-per-node 2}}")
case " $* " in
    *" prepare "*|*" train "*|*" ablate "*) arguments+=({small}) ;;
esac
case " $* " in
    *" prepare "*rsna*|*" train "*rsna*) arguments+=({small_rsna}) ;;
esac
{program} "${{arguments[@]}}" || [ $? -eq 3 ]
"""
