"""From sections to one HTML file that needs no other file and no network."""

import logging
import re
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cti.apps.report.blocks import Section
from cti.files import write_text

if TYPE_CHECKING:
    from markupsafe import Markup

logger = logging.getLogger(__name__)


def check_extra() -> None:
    """Make sure that what a report needs is installed.

    Raises:
        ModuleNotFoundError: if it is not; the message names the extra.
    """
    try:
        import jinja2  # noqa: F401
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        message = (
            f'A report needs {error.name}, which is not installed: `pip install "cti[report]"`, then `cti report RUN`.'
        )
        raise ModuleNotFoundError(message, name=error.name) from error


def write_page(path: Path, title: str, subtitle: str, sections: Sequence[Section]) -> Path:
    """Render and write a page, atomically.

    Args:
        path: The HTML file.
        title: Title of the page.
        subtitle: A line below it.
        sections: Those without blocks are left out.
    """
    from jinja2 import Environment, StrictUndefined

    files = resources.files("cti.apps.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["with_code"] = with_code
    template = environment.from_string((files / "template.html").read_text(encoding="utf-8"))
    html = template.render(
        title=title,
        subtitle=subtitle,
        sections=[section for section in sections if section.blocks],
        style=(files / "style.css").read_text(encoding="utf-8"),
        script=(files / "script.js").read_text(encoding="utf-8"),
        version=version("cti"),
    )
    write_text(path, html)
    logger.info("Report of %.1f MB: open %s in a browser.", len(html.encode()) / 1e6, path)
    return path


def with_code(text: str) -> "Markup":
    """A sentence as HTML, what stands between backticks as code."""
    from markupsafe import Markup, escape  # comes with jinja2

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
