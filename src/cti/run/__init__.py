"""The folder of a run: its layout and photos, its stages, and what becomes of them when settings or photos change."""

from cti.run.agree import check_classes_agree, split_by_file
from cti.run.run import FOLDERS, Run

__all__ = ["FOLDERS", "Run", "check_classes_agree", "split_by_file"]
