"""The page's server by its own routes, hostile requests included; no browser."""

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from PIL import Image

from cti.apps.web.cards import Desk
from cti.apps.web.guards import Limits
from cti.apps.web.review import Review
from cti.apps.web.server import open_page, serve
from cti.method.checkpoint import save_model
from tiny import tiny_model

pytest.importorskip("gradio", reason="needs Gradio: pip install 'cti[web]'")
pytestmark = pytest.mark.web
LIMITS = Limits(max_upload_mb=0.2)


@dataclass(frozen=True)
class Served:
    address: str
    network: Any
    folder: Path
    photo: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, stub_network: Any) -> Iterator[Served]:
    """One page for all tests here; they leave nothing on it."""
    folder, network = tmp_path_factory.mktemp("served"), stub_network()
    photo = folder / "photos" / "a.png"
    photo.parent.mkdir()
    Image.new("RGB", (40, 24)).save(photo)
    with open_page(Desk(network), LIMITS, Review(photo.parent, folder / "verdicts")) as address:
        yield Served(address.rstrip("/"), network, folder, photo)


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    try:
        with urlopen(Request(url, body, headers), timeout=20) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def send(address: str, name: str, content: bytes) -> tuple[int, bytes]:
    """Upload a file as the page does."""
    body = (
        b'--line\r\nContent-Disposition: form-data; name="files"; filename="'
        + name.encode()
        + b'"\r\nContent-Type: image/png\r\n\r\n'
        + content
        + b"\r\n--line--\r\n"
    )
    return ask(f"{address}/gradio_api/upload", body, **{"Content-Type": "multipart/form-data; boundary=line"})


def call(address: str, target: str, data: list[Any], session: str = "") -> str:
    """Trigger what a component's event triggers, as the page does, and return the stream of answers."""
    session = session or uuid4().hex
    config = json.loads(ask(f"{address}/config")[1])
    ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    ids["page"] = next(t[0] for one in config["dependencies"] for t in one["targets"] if t[1] == "load")
    kinds = ("input", "upload", "load")
    event = next(
        one["id"]
        for one in config["dependencies"]
        if one["backend_fn"] and any([ids.get(target), kind] in one["targets"] for kind in kinds)
    )
    body = json.dumps({"data": data, "fn_index": event, "session_hash": session}).encode()
    status, answer = ask(f"{address}/gradio_api/queue/join", body, **{"Content-Type": "application/json"})
    assert status == 200, answer
    return ask(f"{address}/gradio_api/queue/data?session_hash={session}")[1].decode()


def test_no_route_reads_files_that_are_not_the_pages_own(served: Served) -> None:
    secret = served.folder / "secret.png"
    secret.write_bytes(b"a secret")
    upward = os.path.relpath(secret, Path.cwd())
    for path in (str(secret), str(served.photo), upward, "/etc/passwd", "pyproject.toml", f"file://{secret}"):
        for route in ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/static/", "/assets/", "/"):
            for written in (path, quote(path, safe=""), quote(quote(path, safe=""), safe="")):
                status, answer = ask(f"{served.address}{route}{written}")
                assert status in (400, 403, 404, 405, 422), (route, written, status)
                assert b"a secret" not in answer


def test_what_a_visitor_hands_in_is_read_and_no_other_path_is(served: Served) -> None:
    def hand_in(path: str) -> str:
        handed = [{"path": path, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}]
        return call(served.address, "upload", [None, handed, 0.5])

    runs = len(served.network.runs)
    for path in (str(served.photo), "/etc/passwd", "../../../etc/passwd", f"{served.folder}/photos/../photos/a.png"):
        assert '"success":false' in hand_in(path).replace(" ", "")
    assert len(served.network.runs) == runs
    status, answer = send(served.address, "a.png", served.photo.read_bytes())
    assert status == 200
    assert "1 of 1 files done" in hand_in(json.loads(answer)[0])
    assert len(served.network.runs) == runs + 1


def test_the_list_reads_its_own_photos_only(served: Served) -> None:
    visitor = uuid4().hex
    call(served.address, "page", [None, None, "all", 0.5], visitor)  # the list is offered when the page is loaded
    runs = len(served.network.runs)
    for name in ("../secret", "/etc/passwd", "..%2fsecret", {"path": "/etc/passwd"}, ["a"], 7):
        answer = call(served.address, "listed", [None, name, "all", 0.5], visitor)
        assert '"success":false' in answer.replace(" ", "") or "is not on the review list" in answer
    assert len(served.network.runs) == runs
    assert '"success":true' in call(served.address, "listed", [None, "a", "all", 0.5], visitor).replace(" ", "")
    assert len(served.network.runs) == runs + 1


def test_uploads_are_limited_in_size_and_stay_in_a_private_folder(served: Served) -> None:
    status, answer = send(served.address, "big.png", bytes(LIMITS.max_bytes + 1))
    assert status == 413
    assert b"maximum allowed size" in answer
    status, answer = send(served.address, "../../../../tmp/evil.png", b"x")
    assert status == 200
    (path,) = map(Path, json.loads(answer))
    private = Path(os.environ["GRADIO_TEMP_DIR"])
    assert path.resolve().is_relative_to(private)
    assert private.parent.stat().st_mode & 0o077 == 0


def test_it_listens_on_loopback_and_to_its_own_name_only(served: Served) -> None:
    address = served.address
    port = int(address.rsplit(":", 1)[1])
    assert address.startswith("http://127.0.0.1:")
    assert ask(address, Host=f"127.0.0.1:{port}")[0] == 200
    assert ask(address, Host=f"localhost:{port}")[0] == 200
    assert ask(address, Host="rebound.example")[0] == 400
    others = {found[4][0] for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for other in others:
        with pytest.raises(OSError, match=r"."), socket.create_connection((other, port), timeout=2):
            pass


def test_no_analytics_no_api_no_outside_fonts(served: Served) -> None:
    address = served.address
    config = json.loads(ask(f"{address}/config")[1])
    assert config["analytics_enabled"] is False
    assert all(one["api_visibility"] == "private" or not one["backend_fn"] for one in config["dependencies"])
    assert json.loads(ask(f"{address}/gradio_api/info")[1])["named_endpoints"] == {}
    page = ask(address)[1].decode()
    assert "Content-Security-Policy" in page
    style = ask(f"{address}/theme.css")[1]
    assert b"@import" not in style
    assert b"url('http" not in style


def test_a_taken_port_gives_way_to_the_next_free_one(desk: Desk, limits: Limits) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with open_page(desk, limits, port=port) as address:
            served = int(address.rstrip("/").rsplit(":", 1)[1])
            assert port < served < port + 100
            assert ask(address)[0] == 200


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [("203.0.113.7", 7860, "Cannot assign requested address"),
     ("no.such.host.invalid", 7860, "Name or service|failure"),
     ("127.0.0.1", 70000, "No port from 70000 on is free"), ("127.0.0.1", -5, "cannot listen")],
)  # fmt: skip
def test_why_it_cannot_start_is_said(desk: Desk, limits: Limits, host: str, port: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason), open_page(desk, limits, host=host, port=port):
        pass


def test_wrong_calls_are_said_before_a_page_opens(tmp_path: Path, review: Review) -> None:
    with pytest.raises(ValueError, match="neither a saved network"):
        serve(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        serve(tmp_path, folder=tmp_path / "nowhere")
    save_model(tmp_path / "model", tiny_model())
    with pytest.raises(ValueError, match="masks would be taken for photos"):
        serve(tmp_path / "model", folder=review.folder, out=review.folder / "out")


def test_nothing_is_left_behind(desk: Desk, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/elsewhere")
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/")
    before = os.environ.get("GRADIO_RUN_HISTORY")
    with open_page(desk, limits) as address:
        private = Path(os.environ["GRADIO_TEMP_DIR"]).parent
        assert send(address.rstrip("/"), "a.png", b"x")[0] == 200
        assert private.is_dir()
        assert ask(f"{address}gradio_api/file=/etc/passwd")[0] == 403
    assert not private.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == "/elsewhere"
    assert os.environ.get("GRADIO_RUN_HISTORY") == before
