"""Serving the page: what it may reach, where it listens, and what it leaves behind, which is nothing."""

import ipaddress
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from cti.apps.web.cards import Desk
from cti.apps.web.guards import Limits
from cti.apps.web.review import Review
from cti.predict.predictor import Predictor, Use

logger = logging.getLogger(__name__)

# The browser itself refuses to fetch anything from elsewhere, whatever Gradio's page asks for.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"]
_LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]"]


def serve(
    run: Path | str,
    host: str = "127.0.0.1",
    port: int = 7860,
    folder: Path | None = None,
    out: Path | None = None,
    use: Use | None = None,
    limits: Limits | None = None,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        run: What `Predictor.from_pretrained` takes.
        host: Address to listen on; anybody who can reach it can use the page.
        port: Port to listen on.
        folder: Photos to review.
        out: Folder for verdicts and accepted masks; None = `<folder>_review`, beside the photos.
        use: Which network of a run; see `Predictor.from_pretrained`.
        limits: What visitors may hand in.

    Raises:
        ValueError: if the network cannot be had, the port is taken, or the review does not fit the folder.
        FileNotFoundError: if there is no such folder.
        ModuleNotFoundError: without Gradio.
    """
    review = None
    if folder is not None:
        review = Review(folder, out or folder.resolve().with_name(f"{folder.resolve().name}_review"))
        logger.info("Verdicts and accepted masks are kept in %s.", review.out)
    desk = Desk(Predictor.from_pretrained(run, use))
    with open_page(desk, limits or Limits(), review, host, port, title=f"cti: {Path(run).name}") as address:
        logger.info("The page is at %s; Ctrl-C ends it.", address)
        if not _is_loopback(host):
            logger.warning("Everybody who can reach %s can use the page and judge the review list.", host)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            logger.info("The page is closed.")


@contextmanager
def open_page(
    desk: Desk,
    limits: Limits,
    review: Review | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    title: str = "cti",
) -> Iterator[str]:
    """The page, served while the block runs; yields its address.

    Args:
        desk: Makes cards.
        limits: What visitors may hand in.
        review: The list, if there is a folder to review.
        host: Address to listen on.
        port: Port to listen on; None = a free one.
        title: Of the page.
    """
    with tempfile.TemporaryDirectory(prefix="cti-web-") as private, _environment(Path(private)):
        try:
            import gradio as gr
            from starlette.middleware import Middleware
            from starlette.middleware.trustedhost import TrustedHostMiddleware
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError('The page needs Gradio: pip install "cti[web]".') from error
        from cti.apps.web.page import Page

        downloads = Path(private) / "downloads"
        downloads.mkdir()
        blocks = Page(desk, limits, downloads, review, title).blocks
        # A page elsewhere whose name is made to lead to this machine (DNS rebinding) is refused by its name.
        names = _LOCAL_NAMES if _is_loopback(host) else ["*"]
        guard: Any = Middleware(TrustedHostMiddleware, allowed_hosts=names)
        try:
            _, address, _ = blocks.launch(
                server_name=host,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=limits.max_bytes,
                state_session_capacity=100,
                footer_links=[],
                enable_monitoring=False,
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                app_kwargs={"middleware": [guard]},
                theme=gr.themes.Default(font=_FONTS, font_mono=["ui-monospace", "monospace"]),
                css=_asset("style.css"),
                head=f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
                f"<script>{_asset('keys.js')}</script>",
            )
        except OSError as error:  # Gradio's way to say that a port is taken
            raise ValueError(f"The page cannot listen on {host}, port {port}; name another port.") from error
        try:
            yield address
        finally:
            blocks.close(verbose=False)


@contextmanager
def _environment(private: Path) -> Iterator[None]:
    """Gradio's settings that are no arguments: what it serves and caches lies in `private`, and it calls nobody."""
    settings = {
        "GRADIO_TEMP_DIR": str(private / "files"),
        "GRADIO_EXAMPLES_CACHE": str(private / "examples"),
        "GRADIO_ALLOWED_PATHS": "",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_RUN_HISTORY": "False",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _asset(name: str) -> str:
    return resources.files("cti.apps.web").joinpath(name).read_text(encoding="utf-8")
