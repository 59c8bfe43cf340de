"""Skips fail in CI: small test files that skip, run by a pytest of their own."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
OPTIONS = (
    "--continue-on-collection-errors",
    "--junitxml=outcomes.xml",
    "-p",
    "no:cacheprovider",
)
SETTINGS = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

CONFTEST = """
from tests.helpers.ci_skips import pytest_make_collect_report, pytest_runtest_makereport
"""

TESTS = {
    "tool": """
import pytest

def test_in_the_body():
    pytest.skip("chromium is not installed")

@pytest.mark.skipif(True, reason="dciodvfy is not installed")
def test_by_a_mark():
    pass

@pytest.fixture
def openvino():
    pytest.skip("the openvino extra is not installed")

def test_by_a_fixture(openvino):
    pass
""",
    "package": """
import pytest
pytest.importorskip("a_package_that_nobody_has")
""",
    "allowed": """
import pytest

def test_data():
    pytest.skip("ICH3D_CT_ICH names no copy of CT-ICH")

def test_accelerator():
    pytest.skip("there is no accelerator")

@pytest.mark.xfail(reason="a known defect")
def test_expected_failure():
    raise AssertionError
""",
}

FOR_A_MISSING_TOOL = {"test_in_the_body", "test_by_a_mark", "test_by_a_fixture", "test_package"}
ALLOWED = {"test_data", "test_accelerator", "test_expected_failure"}


def run_pytest(folder: Path, ci: str) -> tuple[dict[str, str], str]:
    """Run pytest on `TESTS` with the environment variable CI set to `ci`.

    Returns:
        The outcome of each test ("skipped", "failure" or "error") by its name, where a file that is
        skipped as a whole counts as one test; and what pytest printed.
    """
    (folder / "pytest.ini").write_text("[pytest]\n")  # the settings of the repository do not apply
    (folder / "conftest.py").write_text(CONFTEST)
    for name, code in TESTS.items():
        (folder / f"test_{name}.py").write_text(code)

    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS],
        cwd=folder,
        env={
            **os.environ,
            "CI": ci,
            "PYTHONPATH": str(ROOT),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    cases = ElementTree.parse(folder / "outcomes.xml").iter("testcase")
    return {case.attrib["name"]: case[0].tag for case in cases}, finished.stdout


def test_a_skip_for_a_missing_tool_fails_in_ci(tmp_path: Path) -> None:
    outcomes, output = run_pytest(tmp_path, ci="true")
    assert set(outcomes) == FOR_A_MISSING_TOOL | ALLOWED
    assert {name for name in outcomes if outcomes[name] == "skipped"} == ALLOWED
    assert "dciodvfy is not installed\nA test may not be skipped in CI" in output


@pytest.mark.parametrize("ci", ["", "false"])
def test_a_skip_stays_a_skip_elsewhere(ci: str, tmp_path: Path) -> None:
    outcomes, _ = run_pytest(tmp_path, ci)
    assert outcomes == dict.fromkeys(FOR_A_MISSING_TOOL | ALLOWED, "skipped")
