"""Tab completes commands, options, paths and configuration keys in a real bash and a real zsh."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ich3d.cli.completion import completion_script
from ich3d.cli.parser import build_parser
from tests.helpers.command import Run
from tests.helpers.terminal import Terminal

PROMPT = "ready> "
SHOW_WORDS = 'ich3d() { for word in "$@"; do printf \'<%s>\' "$word"; done; echo END; }'
"""In place of the command: it prints its words, so that a test reads what Tab has made of them."""

BASH = ["bash", "--norc", "--noprofile", "-i"]
ZSH = ["zsh", "-f", "-i"]
LOAD = {"bash": ". ./_ich3d", "zsh": "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D"}
"""How docs/terminal.md says that the script, in a file `_ich3d`, is loaded."""

Complete = Callable[[str], str]
"""Types a line in which `\\t` is the Tab key, and returns the words that the command gets."""


def _shell(command: list[str], folder: Path) -> Terminal:
    """An interactive shell in `folder` that has loaded the completion script."""
    (folder / "_ich3d").write_text(completion_script(build_parser(), command[0]))
    terminal = Terminal(command, {"HOME": str(folder)}, folder)
    for line in (f"PS1='{PROMPT}'", LOAD[command[0]], SHOW_WORDS, "echo LOA''DED"):
        terminal.type(f"{line}\r")
    terminal.read_until("LOADED\r\n")
    return terminal


@pytest.fixture(scope="module", params=["bash", "zsh"])
def complete(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Complete]:
    """Completes a line in a folder with a study, a config, and a path that contains a space."""
    command = {"bash": BASH, "zsh": ZSH}[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    folder = tmp_path_factory.mktemp("shell")
    (folder / "study one").mkdir()
    (folder / "study one" / "slice.dcm").touch()
    (folder / "results").mkdir()
    (folder / "results.yaml").touch()
    terminal = _shell(command, folder)

    def call(line: str) -> str:
        terminal.read_until(PROMPT)
        terminal.type(f"{line}\r")
        shown = terminal.read_until("END\r\n")
        return shown.splitlines()[-1].removesuffix("END")

    yield call
    terminal.type("exit\r")
    terminal.finish()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ich3d pred\t", "<predict>"),
        ("ich3d predict --emb\t", "<predict><--embeddings>"),
        ("ich3d completion z\t", "<completion><zsh>"),
        ("ich3d predict stu\tsl\t", "<predict><study one/slice.dcm>"),
        ("ich3d predict . -o resul\tnew", "<predict><.><-o><results/new>"),
        ("ich3d train --config results.\t", "<train><--config><results.yaml>"),
        ("ich3d train --set slices.epo\t3", "<train><--set><slices.epochs=3>"),
        ("ich3d config phan\t", "<config><phantom>"),
        ("ich3d explain . --label subd\t", "<explain><.><--label><subdural>"),
    ],
)
def test_tab_completes(complete: Complete, line: str, words: str) -> None:
    assert complete(line) == words


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_command_prints_the_script(run: Run, shell: str) -> None:
    code, out, err = run("completion", shell)
    assert code == 0
    assert err == ""
    assert out == completion_script(build_parser(), shell) + "\n"


def test_an_unknown_shell_is_refused(run: Run) -> None:
    code, out, err = run("completion", "tcsh")
    assert (code, out) == (2, "")
    assert "bash" in err


def test_the_script_starts_no_python() -> None:
    script = completion_script(build_parser(), "bash")
    done = subprocess.run(
        [
            "bash", "--norc", "-c",
            f"PATH=\n{script}\nCOMP_WORDS=(ich3d insp); COMP_CWORD=1; _ich3d; echo $COMPREPLY",
        ],
        capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert done.stdout == "inspect\n"
