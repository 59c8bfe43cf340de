"""Pinned and permitted versions are compared with known advisories, and a bad one fails."""

import json
from pathlib import Path

import pytest

from scripts.check_advisories import main, read_advisories

ROOT = Path(__file__).parent.parent.parent


def run(folder: Path, capsys: pytest.CaptureFixture[str], **files: str) -> tuple[int, str]:
    """Exit code and output of a check in which `files` take the place of the project's own."""
    arguments = []
    for name, text in files.items():
        (folder / name).write_text(text)
        arguments += [f"--{name}", str(folder / name)]
    code = main(arguments)
    return code, capsys.readouterr().out


def pinned(package: str, version: str) -> str:
    """The project's constraints with another version of one package."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    others = [line for line in lines if not line.lower().startswith(f"{package}==")]
    assert len(others) == len(lines) - 1
    return "\n".join([*others, f"{package}=={version}"])


def test_the_versions_of_this_project_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = run(tmp_path, capsys)
    assert code == 0, output
    assert "AFFECTED" not in output


@pytest.mark.parametrize(
    ("package", "version", "identifier"),
    [
        ("pydicom", "3.0.1", "CVE-2026-32711"),
        ("monai", "1.5.1", "CVE-2026-21851"),
        ("torch", "2.9.1", "CVE-2026-24747"),
    ],
)
def test_a_pin_with_a_known_hole_fails_and_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    package: str,
    version: str,
    identifier: str,
) -> None:
    code, output = run(tmp_path, capsys, constraints=pinned(package, version))
    assert code == 1
    (line,) = (line for line in output.splitlines() if identifier in line)
    assert line.startswith(f"AFFECTED: pins {package} {version}: ")
    assert "read at https://" in line


def test_a_floor_that_permits_a_known_hole_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = (ROOT / "pyproject.toml").read_text().replace("pydicom>=3.0.2", "pydicom>=3.0")
    code, output = run(tmp_path, capsys, project=project)
    assert code == 1
    assert "AFFECTED: permits pydicom 3.0: " in output


def test_a_package_without_an_entry_is_not_checked_and_not_called_safe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, output = run(tmp_path, capsys, constraints="nobody-knows==1.0\npydicom==3.0.2\n")
    (line,) = (line for line in output.splitlines() if "nobody-knows" in line)
    assert line.startswith("not checked, no advisory is on the list")
    assert "pydicom" not in line


def test_an_accepted_advisory_is_shown_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {
        "id": "X-1", "aliases": [], "package": "pydicom", "affected": "<9", "title": "a hole",
        "read_at": "https://example.org", "read_on": "2026-11-26",
    }  # fmt: skip
    for accepted, code in (("", 1), ("it is never called", 0)):
        text = json.dumps({"entries": [{**entry, "accepted": accepted}]})
        found, output = run(tmp_path, capsys, advisories=text)
        assert found == code
        assert "X-1" in output
        assert accepted in output


def test_each_advisory_says_where_and_when_it_was_read() -> None:
    advisories = read_advisories(ROOT / "advisories.json")
    assert {"pydicom", "monai"} <= {advisory.package for advisory in advisories}
    assert len({advisory.id for advisory in advisories}) == len(advisories)


def test_an_advisory_without_its_page_is_refused(tmp_path: Path) -> None:
    entry = {"id": "X-1", "package": "p", "affected": "<9", "title": "t", "read_at": ""}
    (tmp_path / "list").write_text(json.dumps({"entries": [entry]}))
    with pytest.raises(ValueError, match="the page it was read from"):
        read_advisories(tmp_path / "list")
