"""What `make test-fast` leaves out: tests that train or run networks, and others that take long.

They carry the mark `trains`. A test gets it here if it is in one of `LONG`, or if it uses one of
the fixtures in `FIXTURES`. Others that take over a second carry the mark in their own file.
"""

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

LONG = (
    "ablation",
    "benchmarks",
    "cli/test_commands.py",
    "cli/test_doctor.py",
    "crossfit",
    "docs/test_results_tables.py",
    "explain",
    "export/test_bundle.py",
    "export/test_dicom_heat.py",
    "export/test_dicom_sr.py",
    "export/test_network.py",
    "inference",
    "laws/test_damaged_files.py",
    "model",
    "notebooks",
    "phantom/test_lookalikes.py",
    "phantom/test_study.py",
    "slices/test_backbones.py",
    "slices/test_embed.py",
    "slices/test_encoder.py",
    "stack/test_booster.py",
)
"""Folders and files below tests/ in which every test is marked."""

FIXTURES = frozenset({"finished_run", "model_folder", "model"})
"""Fixtures of tests/conftest.py that train a run or load its model."""


def takes_long(path: Path) -> bool:
    """Whether `path`, a file or folder below tests/, is one of `LONG` or within one."""
    return any(path.is_relative_to(TESTS / long) for long in LONG)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import files whose tests would all be deselected: that loads the networks."""
    return True if "not trains" in config.option.markexpr and takes_long(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Add the mark to the collected tests."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if takes_long(item.path) or fixtures & FIXTURES:
            item.add_marker(pytest.mark.trains)
