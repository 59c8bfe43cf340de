"""Pages of the documentation that are written from the code: all commands, and all config keys.

MkDocs calls `on_files` before it reads the pages (`hooks` of mkdocs.yml).
"""

import argparse
import re
from collections.abc import Iterator

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from ich3d.cli.parser import EXIT_CODES, build_parser
from ich3d.config.reference import Key, keys


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages to those of the folder."""
    for name, content in (("commands.md", commands_page()), ("configuration.md", config_page())):
        files.append(File.generated(config, name, content=content))
    return files


def commands_page() -> str:
    """All commands with their options and an example each, from the parser."""
    parser = build_parser()
    head = (
        "# Commands\n\nEvery command and its options, as `ich3d COMMAND --help` shows them. Exit "
        f"codes: {EXIT_CODES}.\n"
    )
    return "\n".join([head, *(_command(sub) for sub in _subparsers(parser))])


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands; a command with commands of its own gives those instead."""
    groups = [
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    ]
    if not groups:
        yield parser
    for group in groups:
        for subparser in group.choices.values():
            yield from _subparsers(subparser)


def _command(parser: argparse.ArgumentParser) -> str:
    lines = [f"## {parser.prog}", "", parser.description or "", ""]
    lines += ["| argument | meaning |", "|---|---|"]
    lines += [
        f"| {_name(action)} | {_cell(_meaning(parser, action))} |"
        for action in parser._actions
        if action.help != argparse.SUPPRESS and "--help" not in action.option_strings
    ]
    example = (parser.epilog or "").removeprefix("example: ")
    if example:
        lines += ["", f"Example: `{example}`"]
    return "\n".join([*lines, ""])


def _name(action: argparse.Action) -> str:
    """`-o OUT, --out OUT`, or the name of a positional argument."""
    value = _value(action)
    if not action.option_strings:
        return f"`{value}`"
    names = [f"{option} {value}".strip() for option in action.option_strings]
    return _cell(", ".join(f"`{name}`" for name in names))


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.metavar is not None:
        return action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper() if action.option_strings else action.dest


def _meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return f"{text} (required)" if action.required and action.option_strings else text


def config_page() -> str:
    """All keys of a configuration by section, with default and meaning, from the docstrings."""
    lines = [
        "# Configuration",
        "",
        "Every key of a YAML file for `prepare`, `train` and `ablate`, as `ich3d config` lists "
        "them. A key that is left out has its default; on the command line: "
        "`--set slices.epochs=20`. `base: [FILE]` takes over another file's keys.",
        "",
    ]
    section = None
    for key in keys():
        name = key.name.rpartition(".")[0]
        if name != section:
            section = name
            title = f"`{section}`" if section else "The whole run"
            lines += ["", f"## {title}", "", "| key | default | meaning |", "|---|---|---|"]
        lines.append(_key_row(key))
    return "\n".join([*lines, ""])


def _key_row(key: Key) -> str:
    return f"| `{key.name.rpartition('.')[2]}` | `{_cell(key.default)}` | {_cell(key.text)} |"


def _cell(text: str) -> str:
    """Text that does not end the cell of a table."""
    return re.sub(r"\s+", " ", text).replace("|", r"\|")
