"""`ich3d completion`: a script with which bash or zsh completes the commands of `ich3d`.

The script is made once from the parser and contains all words, so that completing starts no Python.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SHELLS: Final = ("bash", "zsh")

FOLDER_ARGUMENTS: Final = ("out", "bundle", "run", "scores", "model", "other")
"""Arguments with a path that are always folders."""

_FILES: Final = {
    "bash": "_ich3d_files",
    "zsh": "_files",
    "preamble": {"bash": '_ich3d_files() { compgen -f -- "$1"; }'},
}
_FOLDERS: Final = {
    "bash": "_ich3d_dirs",
    "zsh": "_files -/",
    "preamble": {"bash": '_ich3d_dirs() { compgen -d -- "$1"; }'},
}
"""For shtab: the function of each shell that completes a path. Its own ones for bash break at
spaces. Their names end in what makes shtab's script put a slash behind a folder.
"""

_NO_SPACE_AFTER_A_KEY: Final = """
# A value follows the key of --set at once.
_ich3d() {
  _shtab_ich3d "$@"
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace; fi
}
complete -o bashdefault -F _ich3d ich3d
"""
"""Added to the script for bash: `compopt` works only in the function that bash calls itself."""


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that lets a shell complete commands, options, files, folders and keys of `--set`.

    Args:
        parser: the parser of all commands.
        shell: one of `SHELLS`.
    """
    import shtab  # only here, so that other commands start without it

    for action in _actions(parser):
        how = _completion_of(action)
        if how is not None:
            action.complete = how  # type: ignore[attr-defined]  # where shtab looks for it
    script = shtab.complete(parser, shell)
    return script + _NO_SPACE_AFTER_A_KEY if shell == "bash" else script


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of a parser and of its commands."""
    for action in parser._actions:  # argparse has no public way to list them
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from _actions(subparser)


def _completion_of(action: argparse.Action) -> object:
    """How the value of an argument is completed, in shtab's form; None for no completion."""
    from ich3d.core.labels import LABELS

    if action.type is Path:
        return _FOLDERS if action.dest in FOLDER_ARGUMENTS else _FILES
    if action.option_strings == ["--set"]:
        return _words("config_keys", [f"{key}=" for key in _config_keys()])
    if action.dest == "section":
        return _words("config_sections", sorted({key.split(".")[0] for key in _section_keys()}))
    if action.dest == "label":
        return _words("label_names", LABELS)
    return None


def _config_keys() -> list[str]:
    """The keys of a configuration, without those that hold a name of the user's own."""
    from ich3d.config.reference import keys

    return [key.name for key in keys() if "NAME" not in key.name]


def _section_keys() -> list[str]:
    return [key for key in _config_keys() if "." in key]


def _words(name: str, words: tuple[str, ...] | list[str]) -> dict[str, object]:
    """Complete one of some words; a word that ends in `=` gets no space behind it."""
    listed = " ".join(words)
    no_space = "-S '' " if listed.endswith("=") else ""
    return {
        "bash": f"_ich3d_{name}",
        "zsh": f"_ich3d_{name}",
        "preamble": {
            "bash": f'_ich3d_{name}() {{ compgen -W "{listed}" -- "$1"; }}',
            "zsh": f'_ich3d_{name}() {{ compadd "$@" {no_space}-- {listed}; }}',
        },
    }
