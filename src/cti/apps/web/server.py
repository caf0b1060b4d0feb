"""Serving the page: what it may reach, where it listens, and what it leaves behind, which is nothing."""

import errno
import ipaddress
import logging
import os
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from cti.apps.web.cards import Desk
from cti.apps.web.guards import Limits
from cti.apps.web.review import Review, ReviewList
from cti.apps.web.run_review import RunReview
from cti.predict.predictor import Predictor, Use
from cti.run import Run
from cti.settings import CONFIG_FILE

logger = logging.getLogger(__name__)

PORT, PORTS = 7860, 100

# The browser itself refuses to fetch anything from elsewhere, whatever Gradio's page asks for.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"]
_LOCAL_NAMES = ["localhost", "127.0.0.1", "[::1]"]


def serve(
    run: Path | str,
    host: str = "127.0.0.1",
    port: int = PORT,
    folder: Path | None = None,
    out: Path | None = None,
    use: Use | None = None,
    limits: Limits | None = None,
    photo: str | None = None,
    in_browser: bool = False,
) -> None:
    """Serve the page until Ctrl-C; without a folder of photos it opens with those of the run, see `RunReview`.

    Args:
        run: What `Predictor.from_pretrained` takes.
        host: Address to listen on; anybody who can reach it can use the page.
        port: Port to listen on; the next free one if it is taken.
        folder: Photos to review; None = the run's own.
        out: Folder for verdicts and accepted masks; None = `<folder>_review`, beside the photos.
        use: Which network of a run; see `Predictor.from_pretrained`.
        limits: What visitors may hand in.
        photo: Id of the run's photo to show first.
        in_browser: Open the page in the browser.

    Raises:
        ValueError: if the network cannot be had, no port is free, or the review does not fit the folder.
        FileNotFoundError: if there is no such folder.
        ModuleNotFoundError: without Gradio.
    """
    review: ReviewList | None = None
    if folder is None and (Path(run) / CONFIG_FILE).is_file():
        review = _run_review(Path(run), photo)
    elif folder is not None:
        review = Review(folder, out or folder.resolve().with_name(f"{folder.resolve().name}_review"))
        logger.info("Verdicts and accepted masks are kept in %s.", review.out)
    predictor = Predictor.from_pretrained(run, use)
    desk, limits = Desk(predictor), replace(limits or Limits(), reading=predictor.reading)
    with open_page(desk, limits, review, host, port, title=f"cti: {Path(run).name}") as address:
        logger.info("The page is at %s; Ctrl-C ends it.", address)
        if in_browser and not webbrowser.open(address):
            logger.warning("No browser could be opened; open %s yourself.", address)
        if not _is_loopback(host):
            logger.warning("Everybody who can reach %s can use the page and judge the review list.", host)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            logger.info("The page is closed.")


def _run_review(run: Path, photo: str | None) -> ReviewList | None:
    """The run's photos; None, which is said, where they are gone: the network still works."""
    opened = Run.open(run)
    try:
        opened.photos  # noqa: B018  (read once, here)
    except (ValueError, OSError) as error:
        if photo is not None:
            raise
        logger.warning("The run's own photos are not shown: %s", error)
        return None
    return RunReview(opened, photo)


def free_port(host: str, port: int | None) -> int:
    """The first free port from `port` on.

    Args:
        host: Address to listen on.
        port: Port to begin with; None = any.

    Raises:
        ValueError: if the address cannot be listened on, or no port is free; the message says why.
    """
    for candidate in [0] if port is None else range(port, min(port + PORTS, 65536)):
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(place)
                return int(tried.getsockname()[1])
        except (OSError, OverflowError) as error:
            if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
                reason = getattr(error, "strerror", None) or error
                raise ValueError(f"The page cannot listen on {host}, port {candidate}: {reason}.") from error
    raise ValueError(f"No port from {port} on is free on {host}; name another with --port.")


@contextmanager
def open_page(
    desk: Desk,
    limits: Limits,
    review: ReviewList | None = None,
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
        port: Port to listen on, or the next free one; None = any that is free.
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
                server_port=free_port(host, port),
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
        except OSError as error:  # Gradio's own words speak of its own settings
            raise ValueError(f"The page cannot listen on {host}; name another --host or --port.") from error
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
