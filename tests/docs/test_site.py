"""The documentation's site: it builds without a warning, fetches nothing, and its search works."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ich3d.cli.parser import build_parser
from ich3d.config.reference import keys
from tests.helpers.browser import browse

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a dead link or a page without a place in the menu would stop the build."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return folder


def test_a_page_fetches_nothing(site: Path) -> None:
    """Whatever a browser loads by itself: scripts, styles, fonts, pictures."""
    pages = list(site.rglob("*.html"))
    assert pages
    loaded = r"<(?:script|img|iframe)[^>]+src=\"(https?:[^\"]+)|<link[^>]+href=\"(https?:[^\"]+)"
    for page in pages:
        assert re.findall(loaded, page.read_text(encoding="utf-8")) == [], page.name
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\([\"']?https?:", styles)


def test_the_search_works_from_the_disk(site: Path, tmp_path: Path) -> None:
    """Without a server, and so without workers; what the network would give is blocked."""
    page = site / "index.html"
    asked = tmp_path / "asked.html"
    asked.write_text(
        f'<meta http-equiv="refresh" content="0; url={page.as_uri()}?q=recalibrate">', "utf-8"
    )
    options = (
        "--dump-dom", "--virtual-time-budget=8000", "--host-resolver-rules=MAP * ~NOTFOUND",
    )  # fmt: skip
    shown = browse(asked, tmp_path / "profile", *options).stdout
    assert "matching documents" in shown
    assert "hospital.html" in shown[shown.index("matching documents") :]


def test_the_pages_from_the_code_have_every_command_and_key(site: Path) -> None:
    commands = (site / "commands.html").read_text(encoding="utf-8")
    (subparsers,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for name, parser in subparsers.choices.items():
        assert f"ich3d {name}" in commands
        for action in parser._actions:
            assert all(option in commands for option in action.option_strings if option != "-h")

    configuration = (site / "configuration.html").read_text(encoding="utf-8")
    for key in keys():
        assert key.name.rpartition(".")[2] in configuration
