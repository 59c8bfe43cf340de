"""Under continuous integration (`CI=true`) a skipped test fails.

A test that skips because a program or an optional package is missing tests nothing, and a green run
hides that. The hooks below turn every skip into a failure there; `tests/conftest.py` imports them.
Skips for a data set that cannot be downloaded freely, or for an accelerator, remain skips.
"""

import os
from collections.abc import Generator

import pytest

ALLOWED_REASONS = ("ICH3D_CT_ICH", "ICH3D_RSNA", "accelerator")
"""A skip whose reason contains one of these words is allowed everywhere."""


def in_ci() -> bool:
    """Whether the environment says that this is continuous integration."""
    return os.environ.get("CI", "").lower() in {"1", "true"}


def fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skipped report into a failed one in CI, unless the reason is allowed.

    Tests that are expected to fail (`xfail`) are reported as skipped too; they are left alone.
    """
    if not in_ci() or not report.skipped or hasattr(report, "wasxfail"):
        return

    # pytest keeps a skip as (path, line, reason).
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if any(word in reason for word in ALLOWED_REASONS):
        return

    report.outcome = "failed"
    report.longrepr = (
        f"{reason}\nA test may not be skipped in CI: install what it needs (.ci/run does)."
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Check the report of each phase (setup, call, teardown) of a test."""
    report = yield
    fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Check the report of a collected file: `importorskip` at its top skips the whole file."""
    report = yield
    fail_if_skipped(report)
    return report
