"""The documents agree with the code: links, names, renamed keys, examples, versions, targets."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import ich3d
from ich3d.config.load import as_dict
from ich3d.config.renamed import RENAMED, RENAMED_IN_ROWS
from ich3d.config.root import Config
from ich3d.dicom.write import write_series
from tests.helpers.series import head_series

ROOT = Path(__file__).parents[2]
GENERATED = ("commands.md", "configuration.md")
"""Pages of the site that are written from the code when it is built (`test_site.py`)."""

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def name(path: Path) -> str:
    """The path of a document below the repository's root, as the name of its test."""
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_link_leads_to_a_file(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text())
    links = [link for link in links if "://" not in link and link not in GENERATED]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_changelog_lists_every_renamed_key() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    listed = dict(re.findall(r"^\| `([\w.]+)`.* \| `([\w.]+)` \|$", changelog, flags=re.M))
    renamed = {**RENAMED, **RENAMED_IN_ROWS}
    assert renamed.items() <= listed.items()


def exists(dotted: str) -> bool:
    """Whether `ich3d.<dotted>` is a module, or a name that a module defines.

    Sources are searched instead of imported, because imports load the network libraries.
    """
    *parents, last = dotted.split(".")
    module = ROOT.joinpath("ich3d", *parents).with_suffix(".py")
    if module.is_file():
        return re.search(rf"^(class |def )?{last}\b", module.read_text(), flags=re.M) is not None
    return ROOT.joinpath("ich3d", *parents, f"{last}.py").is_file()


@pytest.mark.parametrize("document", ["docs/glossary.md", "docs/decisions.md", "CONTRIBUTING.md"])
def test_documents_name_what_exists(document: str) -> None:
    """Names such as `core.types.Series` are code, or keys of the configuration."""
    sections = as_dict(Config())
    names = re.findall(r"`(?:ich3d\.)?(\w+(?:\.\w+)+)`", (ROOT / document).read_text())
    names = [name for name in names if not name.endswith(".csv")]
    names = [name for name in names if (ROOT / "ich3d" / name.split(".")[0]).is_dir()]
    assert names

    is_key = {name: name.split(".")[1] in sections.get(name.split(".")[0], {}) for name in names}
    assert [name for name in names if not is_key[name] and not exists(name)] == []


def test_the_example_of_the_readme_runs(
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    series = head_series()
    write_series(series, tmp_path / "study")
    shutil.copytree(model_folder, tmp_path / "runs" / "demo" / "model")
    monkeypatch.chdir(tmp_path)

    exec(compile(example, "README.md", "exec"), {})
    assert series.series_uid in capsys.readouterr().out


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == ich3d.__version__
    dated = f"## {ich3d.__version__} ({citation['date-released']})"
    assert dated in (ROOT / "CHANGELOG.md").read_text().splitlines()
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()  # what version 1.2.0 requires


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.M)) - {"help"}
    printed = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout
    assert targets == set(re.findall(r"^make ([a-z-]+) ", printed, flags=re.M))
