"""The report of a finished run: one HTML page that needs no server, no network and no script."""

from ich3d.report.page import write_report

__all__ = ["write_report"]
