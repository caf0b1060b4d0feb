"""Photos labelled by workers of Ray. What needs Ray itself takes a while to start, and is slow."""

import builtins
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cti import Predictor
from cti.cli import main
from cti.data.mask_records import read_records
from cti.data.readers.shapes import render_scene
from cti.predict.archives import photos_in
from cti.predict.label import label
from cti.predict.labeller import Labeller, Photo
from cti.predict.ray_engine import _Worker
from tiny import make_run

COUNT = 150


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("ray"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than two workers' portions, one of them no photo."""
    folder = tmp_path_factory.mktemp("new")
    for index in range(COUNT):
        Image.fromarray(render_scene(3, index, 64).image[:40, :48]).save(folder / f"p{index}.png")
    (folder / "bad.png").write_text("no photo")
    return folder


@pytest.fixture(scope="module")
def whole(run: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the local engine makes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    label([photos], run, out)
    return out


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """Stands in the environment of this test's processes, by which they are told from all others."""
    pytest.importorskip("ray", reason='Ray is not installed: pip install "cti[ray]"')
    if not Path("/proc/self/environ").exists():
        pytest.skip("finds Ray's workers in /proc")
    value = f"cti-test-{uuid.uuid4()}"
    monkeypatch.setenv("CTI_TEST_MARK", value)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would let them starve
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    return value


def workers(mark: str) -> list[int]:
    """Process ids of Ray's workers that hold a network, started by this test."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            if place.name.isdigit() and b"ray::MapWorker" in (place / "cmdline").read_bytes():
                found += [int(place.name)] * (mark.encode() in (place / "environ").read_bytes())
        except OSError:
            continue  # it has ended
    return found


def wait_for(what: Callable[[], Any], seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


def lines(out: Path) -> list[str]:
    return (out / "photos.jsonl").read_text().splitlines() if (out / "photos.jsonl").exists() else []


def check_equal(out: Path, whole: Path) -> None:
    """Every file is there, every photo once, the pictures the same, and what is known of them but for rounding."""
    files = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (out, whole)
    ]
    assert set(files[0]) == set(files[1])
    for place, content in files[0].items():
        if place.name not in ("manifest.json", "photos.jsonl", "photos.csv"):
            assert content == files[1][place], place
    records, others = read_records(out), read_records(whole)
    assert len(lines(out)) == len(records) == COUNT
    assert list(records) == list(others)
    for name, record in records.items():  # a photo whose batch was another differs in the last digits
        other = others[name]
        assert record.scores == pytest.approx(other.scores, abs=1e-5)
        assert (record.photo, record.digest, record.tags, record.shares) == (
            other.photo, other.digest, other.tags, other.shares,
        )  # fmt: skip


def test_without_ray_one_sentence_says_what_to_install(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **others: Any) -> Any:
        if name.split(".")[0] == "ray":
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    words = ["label", str(photos), "--model", str(run), "--out", str(tmp_path / "out")]
    assert main([*words, "--engine", "ray"]) == 1
    assert capsys.readouterr().err == 'cti label: The engine ray needs Ray: pip install "cti[ray]".\n'
    assert not (tmp_path / "out").exists()


def test_a_worker_hands_over_what_it_found_and_what_stopped_it(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Ray: what it would send to and fro."""
    predictor = Predictor.from_pretrained(run)
    labeller = Labeller(predictor.analyser, predictor.reading, tmp_path / "out", None, False, 10_000)
    monkeypatch.chdir(photos)
    worker = pickle.loads(pickle.dumps(_Worker(labeller, str(photos))))
    chunk = [Photo("p0", Path("p0.png"), ("cat",)), Photo("bad", Path("bad.png"), None)]
    (answer,) = worker({"photos": [pickle.dumps(chunk)]})["outcomes"]
    outcomes = {photo.name: outcome for photo, outcome in pickle.loads(answer)}
    assert outcomes["p0"].record.photo == "p0.png"
    assert outcomes["p0"].record.tags == ("cat",)
    assert "bad.png is not a readable image" in outcomes["bad"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p0.png"]
    (tmp_path / "file").touch()
    stopped = _Worker(replace(labeller, folder=tmp_path / "file"), str(photos))
    (answer,) = stopped({"photos": [pickle.dumps(chunk)]})["outcomes"]
    error = pickle.loads(answer)
    assert isinstance(error, OSError)
    assert "file" in str(error)


def test_a_worker_reads_photos_that_are_no_files_itself(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent to it holds no pixels."""
    monkeypatch.chdir(photos)
    predictor = Predictor.from_pretrained(run)
    labeller = Labeller(predictor.analyser, predictor.reading, None, None, False, 10_000)
    archive = _archive(photos, tmp_path / "set.tar", 3)
    chunk = pickle.dumps([Photo(name, place, None) for name, place in photos_in(archive)])
    assert len(chunk) < 1000
    (answer,) = pickle.loads(pickle.dumps(_Worker(labeller, str(photos))))({"photos": [chunk]})["outcomes"]
    assert [outcome.record.photo for _, outcome in pickle.loads(answer)] == [f"{archive}/{n}.png" for n in range(3)]


@pytest.mark.slow
def test_ray_labels_the_photos_of_archives(run: Path, photos: Path, tmp_path: Path, mark: str) -> None:
    archive = _archive(photos, tmp_path / "set.tar", 70)
    (tmp_path / "list.txt").write_text("http://127.0.0.1:1/gone.png\n")
    results = [
        label([archive, tmp_path / "list.txt"], run, tmp_path / engine, engine=engine)  # type: ignore[arg-type]
        for engine in ("local", "ray")
    ]
    assert results[0].labelled == results[1].labelled == 70
    assert results[0].skipped == results[1].skipped
    assert "refused" in results[0].skipped["http://127.0.0.1:1/gone.png"]
    for path in (tmp_path / "local").glob("*.png"):
        assert (tmp_path / "ray" / path.name).read_bytes() == path.read_bytes()


def _archive(photos: Path, path: Path, count: int) -> Path:
    """The first photos, in a tar archive."""
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            tar.add(photos / f"p{number}.png", f"{number}.png")
    return path


@pytest.mark.slow
def test_ray_makes_what_one_process_makes_under_a_killed_worker(
    run: Path, photos: Path, whole: Path, tmp_path: Path, mark: str
) -> None:
    out = tmp_path / "out"
    killed: list[int] = []

    def kill() -> None:
        wait_for(lambda: list(out.glob("p*.png")))  # in the middle of its photos: none has come back yet
        killed.extend(workers(mark))
        for process in killed:
            os.kill(process, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    result = label([photos], run, out, engine="ray")
    killer.join()
    assert killed
    assert (result.labelled, list(result.skipped)) == (COUNT, [str(photos / "bad.png")])
    check_equal(out, whole)


@pytest.mark.slow
def test_a_killed_caller_leaves_no_worker_and_its_photos_are_finished_later(
    run: Path, photos: Path, whole: Path, tmp_path: Path, mark: str
) -> None:
    out = tmp_path / "out"
    words = ["label", str(photos), "--model", str(run), "--out", str(out), "--engine", "ray"]
    caller = subprocess.Popen([sys.executable, "-m", "cti", *words], stderr=subprocess.DEVNULL)
    wait_for(lambda: lines(out) or caller.poll() is not None)
    caller.send_signal(signal.SIGKILL)
    assert caller.wait() == -signal.SIGKILL
    told = Counter(lines(out))
    assert 0 < len(told) < COUNT
    wait_for(lambda: not workers(mark))
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    result = label([photos], run, out, engine="ray")
    assert (result.kept, result.labelled) == (len(told), COUNT - len(told))
    kept = [name for name in read_records(out) if (out / f"{name}.png").stat().st_mtime_ns == before.get(f"{name}.png")]
    assert len(kept) == len(told)  # these were not made again
    check_equal(out, whole)


@pytest.mark.slow
def test_ray_writes_the_tables_that_one_process_writes(run: Path, photos: Path, tmp_path: Path, mark: str) -> None:
    pytest.importorskip("pycocotools", reason='pycocotools is not installed: pip install "cti[coco]"')
    parquet = pytest.importorskip("pyarrow.parquet")
    few = [photos / name for name in ("p0.png", "p1.png", "p2.png", "bad.png")]
    tables = []
    for engine in ("local", "ray"):
        out = tmp_path / engine
        result = label(few, run, out, format="parquet", engine=engine)  # type: ignore[arg-type]
        assert (result.labelled, list(result.skipped)) == (3, [str(photos / "bad.png")])
        assert not list(out.glob("*.png"))
        tables.append(sorted(parquet.read_table(out / "photos").to_pylist(), key=lambda row: row["id"]))
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_a_photo_that_kills_every_worker_ends_with_a_sentence(
    run: Path, photos: Path, tmp_path: Path, mark: str
) -> None:
    out, done = tmp_path / "out", threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while not done.is_set():
            for process in workers(mark):
                if process not in killed and (out / "p0.png").exists():
                    killed.append(process)
                    os.kill(process, signal.SIGKILL)
            (out / "p0.png").unlink(missing_ok=True)
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with pytest.raises(OSError, match=r"Ray gave up .*; call again with the same words: what is done is kept"):
            label([photos / "p0.png"], run, out, engine="ray")
    finally:
        done.set()
        killer.join()
    assert len(killed) == 4  # the first try and three more
