"""Photos that are no files: behind addresses, in object storage, in tar archives."""

import asyncio
import builtins
import csv
import io
import re
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.client import IncompleteRead, InvalidURL
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote

import fsspec
import numpy as np
import pytest
from fsspec.asyn import AsyncFileSystem

from cti import Predictor
from cti.cli import main
from cti.data.images import load_mask
from cti.data.mask_records import read_records
from cti.predict import places
from cti.predict.archives import expanded, is_archive, photos_in
from cti.predict.label import label
from cti.predict.photos import find_photos
from cti.predict.places import Address, Member, Unreadable, place_id, tried
from cti.predict.shard import Shard
from tiny import SIZES, make_run

GONE, SLOW, BUSY, CUT, WHOLE = "gone", "slow", "busy", "cut", "whole"  # how the server fails


class Server:
    """A web server on this machine that hands out files, whole or in parts, and fails as told.

    Args:
        files: Path -> content.
        faults: Path -> how it fails, and how often before it does not.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, tuple[str, int]] = {}
        self.asked: Counter[str] = Counter()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(request.path.partition("?")[0])
        content = self.files.get(path)
        fault, times = self.faults.get(path, ("", 0))
        self.asked[path] += 1
        if fault and self.asked[path] > times:
            fault = ""
        if fault == SLOW:
            time.sleep(1)
        if content is None or fault == BUSY:
            request.send_error(503 if fault == BUSY else 404)
            return
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if part and fault != WHOLE:
            total, content = len(content), content[int(part[1]) : int(part[2]) + 1]
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {part[1]}-{part[2]}/{total}")
        else:
            request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[: len(content) // 2] if fault == CUT else content)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(places, "_WAITS", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's object store in memory, empty."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    yield store
    store.store.clear()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("places"))


@pytest.fixture(scope="module")
def images(run: Path) -> dict[str, bytes]:
    """`p0` .. `p5` -> a JPEG."""
    return {path.stem: path.read_bytes() for path in sorted((run.parent / "photos" / "images").glob("p*.jpg"))}


def tar_of(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def errors(out: Path) -> dict[str, str]:
    with (out / "errors.csv").open(newline="") as handle:
        return {row["photo"]: row["reason"] for row in csv.DictReader(handle)}


def check_masks(out: Path, run: Path, expected: dict[str, str]) -> None:
    """Masks are those of the run's own photos, by id."""
    assert {path.stem for path in out.glob("*.png")} == set(expected)
    predictor = Predictor.from_pretrained(run)
    for name, photo in expected.items():
        mask = predictor(run.parent / "photos" / "images" / f"{photo}.jpg").mask
        np.testing.assert_array_equal(load_mask(out / f"{name}.png"), mask)


# Addresses in tables


def test_a_table_of_addresses_is_labelled(run: Path, images: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    server.files = {"/a/p0.jpg": images["p0"], "/b c/p0.jpg": images["p1"], "/photo": images["p2"]}
    (tmp_path / "p3.jpg").write_bytes(images["p3"])
    lines = [f"{server.address}/a/p0.jpg?signature=1", f"{server.address}/b c/p0.jpg", f"{server.address}/photo?id=7"]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["number,url", *(f"{row},{line}" for row, line in enumerate(lines)), "9,p3.jpg"]))
    host = server.address.removeprefix("http://").replace(":", "_")
    ids = {f"{host}__a__p0": "p0", f"{host}__b c__p0": "p1", place_id(lines[2]): "p2", "p3": "p3"}
    result = label([table], run, tmp_path / "out")
    assert (result.labelled, result.skipped) == (4, {})
    check_masks(tmp_path / "out", run, ids)
    assert result.photos[f"{host}__a__p0"] == lines[0]
    record = read_records(tmp_path / "out")[f"{host}__a__p0"]
    assert (record.photo, record.size) == (lines[0], SIZES[0])
    asked = sum(server.asked.values())
    assert label([table], run, tmp_path / "out").kept == 4
    assert sum(server.asked.values()) == asked == 3  # nothing is fetched twice


def test_what_cannot_be_fetched_is_in_the_table_of_errors(
    run: Path, images: dict[str, bytes], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PATIENCE", 0.2)
    monkeypatch.setattr(places, "MAX_BYTES", 20_000)
    server.files = {f"/{name}.jpg": images["p0"] for name in ("good", "slow", "busy", "cut", "soon")}
    server.files |= {"/text.jpg": b"no photo", "/half.jpg": images["p0"][:-500], "/large.jpg": bytes(20_001)}
    server.faults = {"/slow.jpg": (SLOW, 9), "/busy.jpg": (BUSY, 9), "/cut.jpg": (CUT, 9), "/soon.jpg": (BUSY, 2)}
    names = [*(name.strip("/") for name in server.files), "gone.jpg"]
    table = tmp_path / "list.txt"
    table.write_text(
        "".join(f"{server.address}/{name}\n" for name in names) + "http://127.0.0.1:1/a.jpg\nnews://b.jpg\n"
    )
    result = label([table], run, tmp_path / "out")
    assert result.labelled == 2
    assert {Path(place).name for place in result.photos.values()} == {"good.jpg", "soon.jpg"}
    reasons = {Path(place).name: reason for place, reason in errors(tmp_path / "out").items()}
    for name, reason in {
        "slow.jpg": "timed out",
        "busy.jpg": "503",
        "cut.jpg": "IncompleteRead",
        "gone.jpg": "404",
        "text.jpg": "is not a readable image",
        "half.jpg": "is damaged",
        "large.jpg": "is larger than 0 MB; download it",
        "a.jpg": "refused",
        "b.jpg": "cti knows http, https, file and s3",
    }.items():
        assert reason in reasons.pop(name), name
    assert not reasons
    assert server.asked == Counter(
        {"/good.jpg": 1, "/gone.jpg": 1, "/text.jpg": 1, "/half.jpg": 1, "/large.jpg": 1}
        | dict.fromkeys(("/slow.jpg", "/busy.jpg", "/cut.jpg", "/soon.jpg"), 3)
    )


def test_a_photo_that_comes_too_slowly_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_LONGEST", -1.0)
    server.files["/a.jpg"] = bytes(100)
    with pytest.raises(ValueError, match=r"a.jpg could not be had \(timed out after -1 s\); check the address"):
        Address(f"{server.address}/a.jpg").content()


def test_tags_are_given_by_address(run: Path, images: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    server.files = {"/p0.jpg": images["p0"], "/p1.jpg": images["p1"]}
    (tmp_path / "list.txt").write_text(f"{server.address}/p0.jpg\n{server.address}/p1.jpg\n")
    (tmp_path / "tags.csv").write_text(f"image,tags\n{server.address}/p0.jpg,dog\n")
    label([tmp_path / "list.txt"], run, tmp_path / "out", labels=tmp_path / "tags.csv")
    given = {Path(record.photo).name: record.given for record in read_records(tmp_path / "out").values()}
    assert given == {"p0.jpg": ("dog",), "p1.jpg": None}


def test_one_address_is_a_photo(run: Path, images: dict[str, bytes], server: Server, tmp_path: Path) -> None:
    server.files["/p0.jpg"] = images["p0"]
    words = ["label", f"{server.address}/p0.jpg", "--model", str(run), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    (tmp_path / "p1 x.jpg").write_bytes(images["p1"])
    assert find_photos([(tmp_path / "p1 x.jpg").as_uri()]) == {"p1 x": tmp_path / "p1 x.jpg"}
    with pytest.raises(ValueError, match=r"list.csv is a table; download it, and give its path"):
        find_photos([f"{server.address}/list.csv"])


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a/b.jpg", "host__a__b"),
        ("https://user:secret@host:8000/a/b.JPG?X-Amz-Signature=1#top", "host_8000__a__b"),
        ("https://host/photo?id=1", "host__photo-13824ced"),
        ("s3://bucket/a/what?.png", "bucket__a__what_"),
        ("s3://bucket/../../etc/./passwd", "bucket__..__..__etc__passwd"),
        ("gs://bucket/a\x00b\\c.jpg", "bucket__a_b_c"),
        ("sub/a.jpg", "sub__a"),
    ],
)
def test_ids_of_addresses(url: str, name: str) -> None:
    found = place_id(url)
    assert found == name
    assert "/" not in found


# Object storage


def test_folders_and_patterns_in_a_store(run: Path, images: dict[str, bytes], memory: Any, tmp_path: Path) -> None:
    for place, photo in {"a.jpg": "p0", "sub/b.jpg": "p1", "sub/c.jpg": "p2"}.items():
        memory.pipe(f"/bucket/photos/{place}", images[photo])
    memory.pipe("/bucket/photos/notes.txt", b"no photo")
    assert set(find_photos(["memory://bucket/photos/"])) == {"a", "sub__b", "sub__c"}
    assert set(find_photos(["memory:///bucket/photos"])) == {"a", "sub__b", "sub__c"}
    assert set(find_photos(["memory://bucket/photos/*.jpg"])) == {"a"}
    assert set(find_photos(["memory://bucket/photos/**/*.jpg"])) == {"a", "b", "c"}
    assert find_photos(["memory://bucket/photos/sub/b.jpg"]) == {"b": Address("memory://bucket/photos/sub/b.jpg")}
    with pytest.raises(ValueError, match=r"There is no photo in memory://bucket/nothing"):
        find_photos(["memory://bucket/nothing"])
    label(["memory://bucket/photos"], run, tmp_path / "out")
    check_masks(tmp_path / "out", run, {"a": "p0", "sub__b": "p1", "sub__c": "p2"})
    predictor = Predictor.from_pretrained(run)
    np.testing.assert_array_equal(predictor("memory://bucket/photos/a.jpg").mask, load_mask(tmp_path / "out" / "a.png"))
    assert len(list(predictor.stream("memory://bucket/photos"))) == 3


def test_what_a_store_lacks_is_said(run: Path, images: dict[str, bytes], memory: Any, tmp_path: Path) -> None:
    memory.pipe("/bucket/a.jpg", images["p0"])
    (tmp_path / "list.txt").write_text("memory://bucket/a.jpg\nmemory://bucket/gone.jpg\n")
    label([tmp_path / "list.txt"], run, tmp_path / "out")
    assert list(errors(tmp_path / "out")) == ["memory://bucket/gone.jpg"]
    assert "memory://bucket/gone.jpg could not be had" in errors(tmp_path / "out")["memory://bucket/gone.jpg"]


def test_a_store_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Silent(AsyncFileSystem):  # type: ignore[misc]
        async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
            asked.append((path, start, end))
            await asyncio.sleep(60)
            return b""

    monkeypatch.setattr(places, "open_store", lambda _: Silent())
    monkeypatch.setattr(places, "_WAITS", (0.0, 0.0))
    monkeypatch.setattr(places, "_LONGEST", 0.1)
    with pytest.raises(ValueError, match=r"s3://bucket/a.jpg could not be had \(FSTimeoutError\)"):
        Address("s3://bucket/a.jpg").content()
    assert asked == [("s3://bucket/a.jpg", 0, places.MAX_BYTES + 1)] * 3


def test_file_systems_are_not_chained() -> None:
    for url in ("simplecache::s3://bucket/a.jpg", "s3://bucket/zip://a.jpg::file://b.zip", "reference://a.jpg"):
        with pytest.raises(ValueError, match="cannot be read: cti knows"):
            Address(url).content()


@pytest.mark.parametrize("place", ["s3://bucket/photos/*.jpg", "s3://bucket/shards-{0..3}.tar", "list.txt"])
def test_without_the_package_of_a_store_one_sentence_says_what_to_install(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **others: Any) -> Any:
        if name.startswith("s3fs"):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("importlib.import_module", without)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("s3://bucket/a.jpg\n")
    assert main(["label", place, "--model", str(run), "--out", "out"]) == 1
    said = capsys.readouterr().err
    assert said.startswith('cti label: Reading s3:// needs a package: pip install "cti[remote]"')
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        Address("s3://bucket/a.jpg").content()


# Tar archives


def test_shards_of_a_web_data_set(run: Path, images: dict[str, bytes], tmp_path: Path) -> None:
    first = {"000.jpg": images["p0"], "000.json": b"{}", "001.JPG": images["p1"], "./sub/002.jpg": images["p2"]}
    masks = {"000.png": b"", "001.seg.png": b"", ".hidden.jpg": b"", "notes": b""}
    (tmp_path / "set-00.tar").write_bytes(tar_of(masks | first))
    (tmp_path / "set-01.tar").write_bytes(tar_of({"000.jpg": images["p3"]}))
    expected = {"set-00__000": "p0", "set-00__001": "p1", "set-00__sub__002": "p2", "set-01__000": "p3"}
    for place in ("set-*.tar", "set-{00..01}.tar"):
        assert set(find_photos([tmp_path / place])) == set(expected)
    label([f"{tmp_path}/set-{{00..01}}.tar"], run, tmp_path / "out")
    check_masks(tmp_path / "out", run, expected)
    assert read_records(tmp_path / "out")["set-00__000"].photo == f"{tmp_path}/set-00.tar/000.jpg"
    assert label([tmp_path / "set-*.tar"], run, tmp_path / "out").kept == 4
    changed = tar_of(masks | first | {"000.jpg": images["p4"]})
    (tmp_path / "set-00.tar").write_bytes(changed)
    result = label([tmp_path / "set-*.tar"], run, tmp_path / "out")
    assert (result.kept, result.labelled) == (3, 1)
    check_masks(tmp_path / "out", run, expected | {"set-00__000": "p4"})
    assert len(list(Predictor.from_pretrained(run).stream(str(tmp_path / "set-00.tar")))) == 3


def test_tables_of_masks_and_exports(
    run: Path, images: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason='pyarrow is not installed: pip install "cti[parquet]"')
    pytest.importorskip("pycocotools", reason='pycocotools is not installed: pip install "cti[coco]"')
    (tmp_path / "set.tar").write_bytes(tar_of({"0.jpg": images["p0"], "1.jpg": images["p1"], "2.jpg": b"none"}))
    out = tmp_path / "out"
    for kept in (0, 2):
        result = label([tmp_path / "set.tar"], run, out, format="parquet")
        assert (result.kept, list(result.skipped)) == (kept, [f"{tmp_path}/set.tar/2.jpg"])
    rows = parquet.read_table(out / "photos").to_pylist()
    assert [(row["id"], row["photo"]) for row in sorted(rows, key=lambda row: row["id"])] == [
        ("set__0", f"{tmp_path}/set.tar/0.jpg"), ("set__1", f"{tmp_path}/set.tar/1.jpg"),
    ]  # fmt: skip
    label([tmp_path / "set.tar"], run, tmp_path / "png")
    assert main(["export", "png", str(tmp_path / "png"), "--out", str(tmp_path / "export")]) == 1
    assert "holds masks of photos that are no files, such as" in capsys.readouterr().err


def test_shards_are_read_in_parts_from_afar(
    run: Path, images: dict[str, bytes], server: Server, memory: Any, tmp_path: Path
) -> None:
    whole = tar_of({"000.jpg": images["p0"], "001.jpg": images["p1"], "empty.jpg": b""})
    server.files = {"/set-0.tar": whole, "/set-1.tar": whole}
    server.faults = {"/set-0.tar": (CUT, 1), "/set-1.tar": (WHOLE, 99)}
    memory.pipe("/bucket/mine-0.tar", whole)
    words = [f"{server.address}/set-{{0..1}}.tar", "memory://bucket/mine-*.tar"]
    result = label(words, run, tmp_path / "out")
    check_masks(
        tmp_path / "out", run, {"set-0__000": "p0", "set-0__001": "p1", "mine-0__000": "p0", "mine-0__001": "p1"}
    )
    assert result.skipped.keys() == {
        f"{server.address}/set-0.tar/empty.jpg", "memory://bucket/mine-0.tar/empty.jpg",
        *(f"{server.address}/set-1.tar/{name}.jpg" for name in ("000", "001")),
        f"{server.address}/set-1.tar/empty.jpg",
    }  # fmt: skip
    assert "hands out no parts of files" in result.skipped[f"{server.address}/set-1.tar/000.jpg"]


def test_damaged_shards_are_in_the_table_of_errors(
    run: Path, images: dict[str, bytes], server: Server, tmp_path: Path
) -> None:
    whole = tar_of({"000.jpg": images["p0"], "001.jpg": images["p1"]})
    second = len(tar_of({"000.jpg": images["p0"]}).rstrip(b"\0")) // 512 * 512 + 512
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "cut.tar").write_bytes(whole[: second + 512 + 300])
    (folder / "end.tar").write_bytes(whole[:second])
    (folder / "bad.tar").write_bytes(whole[:second] + b"x" * 512 + whole[second + 512 :])
    (folder / "text.tar").write_text("no archive")
    (folder / "none.tar").write_bytes(tar_of({"notes.txt": b"no photo"}))
    (folder / "all.tar.gz").write_bytes(b"\x1f\x8b")
    words = [str(folder / "*.tar*"), f"{server.address}/gone.tar"]
    result = label(words, run, tmp_path / "out")
    check_masks(tmp_path / "out", run, {"cut__000": "p0", "end__000": "p0", "bad__000": "p0"})
    reasons = {Path(place).name if ".jpg" not in place else "member": why for place, why in result.skipped.items()}
    assert errors(tmp_path / "out") == result.skipped
    for name, reason in {
        "member": "cut.tar/001.jpg is cut short: 300 of its",
        "cut.tar": "is cut short, compressed or damaged",
        "end.tar": "its end is missing",
        "bad.tar": "its end is missing",
        "text.tar": "is cut short, compressed or damaged",
        "none.tar": "holds no photo; one is a member called as 0001.jpg is",
        "all.tar.gz": "is cut short, compressed or damaged",
        "gone.tar": "404",
    }.items():
        assert reason in reasons.pop(name), name
    assert not reasons


def test_every_part_says_which_archive_it_could_not_list(run: Path, images: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of({f"{name}.jpg": content for name, content in images.items()}))
    (tmp_path / "b.tar").write_text("no archive")
    masks: list[str] = []
    for index in range(3):
        result = label([tmp_path / "*.tar"], run, tmp_path / "out", shard=Shard(index, 3))
        assert list(result.skipped) == [str(tmp_path / "b.tar")]
        masks += result.photos
    assert sorted(masks) == [f"a__p{index}" for index in range(6)]


def test_names_of_members_lead_nowhere(run: Path, images: dict[str, bytes], tmp_path: Path) -> None:
    names = ["../../up.jpg", "/etc/root.jpg", "a\\b.jpg", "na\udcffme.jpg", "twice.jpg", "new\nline.jpg"]
    content = tar_of(dict.fromkeys(names, images["p0"]))
    (tmp_path / "in" / "deep").mkdir(parents=True)
    archive = tmp_path / "in" / "deep" / "t.tar"
    archive.write_bytes(content)
    with tarfile.open(archive, "a") as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        again = tarfile.TarInfo("twice.jpg")
        again.size = len(images["p1"])
        tar.addfile(again, io.BytesIO(images["p1"]))
    before = set(tmp_path.rglob("*"))
    result = label([archive], run, tmp_path / "in" / "out", overlays=False)
    assert not result.skipped
    check_masks(
        tmp_path / "in" / "out", run,
        {"t__..__..__up": "p0", "t__etc__root": "p0", "t__a_b": "p0", "t__na\ufffdme": "p0", "t__new_line": "p0",
         "t__twice": "p1"},
    )  # fmt: skip
    new = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "in" / "out") for path in new)


def test_archives_with_any_damage_are_listed_without_a_traceback(images: dict[str, bytes], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    long = {"a" * 150 + ".jpg": images["p0"], "ü.jpg": images["p1"], "b.jpg": images["p2"]}
    pax = io.BytesIO()
    with tarfile.open(fileobj=pax, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in long.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.pax_headers = len(content), {"comment": "x" * 700}
            tar.addfile(entry, io.BytesIO(content))
    for whole in (tar_of(long), pax.getvalue()):
        headers = [start for start in range(0, len(whole), 512) if whole[start + 257 : start + 262] == b"ustar"]
        for _ in range(100):
            content = bytearray(whole)
            start = int(random.choice(headers))
            for place in random.integers(0, 512, random.integers(1, 12)):
                content[start + place] = random.integers(256)
            block = content[start : start + 512]
            block[148:156] = b" " * 8  # a right checksum, so that the header is believed
            content[start + 148 : start + 156] = b"%06o\0 " % sum(block)
            (tmp_path / "t.tar").write_bytes(content[: random.integers(len(content) // 2, len(content) + 1)])
            for _, place in photos_in(tmp_path / "t.tar"):
                assert isinstance(place, Member | Unreadable)
                with_reason = None
                try:
                    place.content()
                except ValueError as error:
                    with_reason = str(error)
                assert with_reason is None or "t.tar" in with_reason


def test_archives_are_known_by_their_suffix() -> None:
    names = ["a.tar", "A.TAR", "a.tar.gz", "a.tgz", "https://host/a.tar?sign=1", "s3://bucket/a-*.tar"]
    assert all(map(is_archive, names))
    assert not any(map(is_archive, ["a.tar.jpg", "tar", "https://host/a.jpg?of=b.tar", "s3://bucket/a.tar/"]))


def test_braces_stand_for_numbers() -> None:
    assert expanded("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert expanded("{0..1}/{1..2}") == ["0/1", "0/2", "1/1", "1/2"]
    assert expanded("a{b,c}.jpg") == ["a{b,c}.jpg"]


def _http(code: int) -> HTTPError:
    return HTTPError("http://x", code, "no", None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        *((_http(code), True) for code in (408, 429, 500, 503)),
        *((_http(code), False) for code in (403, 404, 499)),
        *((kind(), True) for kind in (OSError, TimeoutError, ConnectionError)),
        (IncompleteRead(b""), True),
        *((kind(), False) for kind in (FileNotFoundError, PermissionError, IsADirectoryError, InvalidURL, ValueError)),
    ],
)
def test_what_may_pass_is_tried_three_times(monkeypatch: pytest.MonkeyPatch, error: Exception, again: bool) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    tries = []

    def work() -> None:
        tries.append(1)
        raise error

    with pytest.raises(ValueError, match=r"^x could not be had \(.+\); check the address and the connection\.$"):
        tried("x", work)
    assert (len(tries), waits) == ((3, [1.0, 4.0]) if again else (1, []))


def test_the_last_reason_is_said_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_WAITS", (0.0, 0.0))
    reasons = [OSError("first"), OSError("two\n  words"), OSError()]

    def work() -> str:
        if reasons:
            raise reasons.pop(0)
        return "done"

    with pytest.raises(ValueError, match=r"could not be had \(OSError\)"):
        tried("x", work)
    assert tried("x", work) == "done"
    reasons.append(FileNotFoundError("two\n  words"))
    with pytest.raises(ValueError, match=r"could not be had \(two words\)"):
        tried("x", work)


def test_no_more_is_fetched_than_is_asked_for_or_can_be_held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[Any, ...]] = []

    def over_http(url: str, start: int, most: int, part: bool) -> bytes:
        asked.append((url, start, most, part))
        return bytes(7)[:most]

    monkeypatch.setattr(places, "_over_http", over_http)
    assert places.fetch("http://x") == bytes(7)
    assert places.fetch("http://x", 3, 5) == bytes(5)
    assert places.fetch("http://x", 3, 0) == b""
    assert asked == [("http://x", 0, places.MAX_BYTES + 1, False), ("http://x", 3, 5, True)]
    archive = tmp_path / "a.tar"
    archive.write_bytes(b"0123456789")
    monkeypatch.setattr(places, "MAX_BYTES", 7)
    assert Address("http://x").content() == bytes(7)
    assert Member(archive, "b", 2, 7).content() == b"2345678"
    with pytest.raises(ValueError, match=r"a\.tar/b is cut short: 5 of its 6 bytes are there; copy it again"):
        Member(archive, "b", 5, 6).content()
    with pytest.raises(ValueError, match=r"a\.tar/b is larger than 0 MB; download it and give its path"):
        Member(archive, "b", 0, 8).content()
    with pytest.raises(ValueError, match=r"gone\.tar/b cannot be read \(.*; restore the archive"):
        Member(tmp_path / "gone.tar", "b", 0, 1).content()
    monkeypatch.setattr(places, "MAX_BYTES", 6)
    with pytest.raises(ValueError, match="http://x is larger than 0 MB"):
        Address("http://x").content()


def test_a_photo_is_the_same_by_its_bytes_or_by_its_address(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"photo")
    (tmp_path / "a.tar").write_bytes(b"xxphotoxx")
    known, other = places.digest(b"photo"), places.digest(b"other")
    near, far = Member(tmp_path / "a.tar", "a.jpg", 2, 5), Member(Address("http://x/a.tar"), "a.jpg", 2, 5)
    for place in (tmp_path / "a.jpg", near):
        assert places.is_same(place, "whatever it was called", known)
        assert not places.is_same(place, str(place), other)
    for place in (Address("http://x/a.jpg"), far):
        assert places.is_same(place, str(place), other)
        assert not places.is_same(place, "http://x/b.jpg", known)
    assert not places.is_same(Member(tmp_path / "gone.tar", "a.jpg", 2, 5), "", known)


def test_a_request_says_who_asks_and_encodes_what_addresses_may_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda request, timeout: asked.append((request, timeout)))
    places.open_http("http://x/ä b/%20[1].jpg?a=1&b='2'#c")
    places.open_http("http://x", {"Range": "bytes=0-1"})
    (first, patience), (second, _) = asked
    assert first.full_url == "http://x/%C3%A4%20b/%20[1].jpg?a=1&b='2'#c"
    assert (first.headers, patience) == ({"User-agent": "cti"}, 30)
    assert second.headers == {"User-agent": "cti", "Range": "bytes=0-1"}


def test_what_is_no_file_is_known_by_its_name() -> None:
    for name in ("http://x/a.jpg", "s3://x/a.jpg", "data/a.tar/0001.jpg"):
        assert places.is_elsewhere(name)
    for name in ("data/a.jpg", "data/a.tar", "C:/a.jpg", "a.tar.d/b.jpg"):
        assert not places.is_elsewhere(name)
    assert places.place_of("FILE:///a%20b.jpg") == Path("/a b.jpg")
    assert places.place_of("s3://a%20b.jpg") == Address("s3://a%20b.jpg")
    assert places.safe_id("/a.jpg") == "a"
    assert places.safe_id("./a//b:c\n?.jpg") == "a__b_c__"
