"""Reports for people: one self-contained HTML file about a run, or about several side by side."""

from cti.report.compare import compare_runs
from cti.report.page import check_extra
from cti.report.report import write_report

__all__ = ["check_extra", "compare_runs", "write_report"]
