"""Reports for people: one self-contained HTML file about a run, or about several side by side."""

from cti.apps.report.compare import compare_runs
from cti.apps.report.page import check_extra
from cti.apps.report.report import write_report

__all__ = ["check_extra", "compare_runs", "write_report"]
