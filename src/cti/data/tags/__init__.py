"""Tags in any form that people have: tables, JSON, exports of labelling tools, sidecar files, sub-folders."""

from cti.data.tags.read import Hints, read_tags
from cti.data.tags.table import TagRow, TagTable

__all__ = ["Hints", "TagRow", "TagTable", "read_tags"]
