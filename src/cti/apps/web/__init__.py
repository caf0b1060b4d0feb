"""The web page: try a network on photos, correct its tags, review its masks."""

from cti.apps.web.server import serve

__all__ = ["serve"]
