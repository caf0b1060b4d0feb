import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cti import commands, pipeline
from cti.apps.report import compare_runs, write_report
from cti.apps.report.run_folder import read_run
from cti.run import Run
from cti.settings import load_config

NUM_PHOTOS = 9
ALWAYS = ["training", "tokens", "data", "cost", "settings"]
VOID = {"meta", "link", "img", "br", "use", "path", "input"}


class Page(HTMLParser):
    """Ids, attributes and the text of a page; fails on tags that do not close."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(self.html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    def values(self, tag: str, name: str) -> list[str]:
        return [attributes[name] or "" for found, attributes in self.tags if found == tag and name in attributes]

    @property
    def sections(self) -> list[str]:
        return self.values("section", "id")


def check_self_contained(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "poster"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("data:", "#")), f"<{tag} {name}={value}>"
            if value.startswith("#"):
                assert value[1:] in ids
    assert not re.search(r"https?://|@import|url\((?!#)", page.html)
    assert all(page.values("img", "alt")), "a picture has no alt text"
    assert len(page.values("img", "alt")) == len(page.values("img", "src"))
    assert len(page.values("svg", "aria-label")) == sum(tag == "svg" for tag, _ in page.tags)


def test_a_finished_run_has_every_part(write_run: Callable[..., Path]) -> None:
    run = write_run()
    path = write_report(run)
    assert path == run / "report.html"
    assert path.stat().st_size < 3_000_000
    page = Page(path)
    check_self_contained(page)
    assert page.sections == ["summary", "scores-score", "scores-val", "panels", *ALWAYS]
    words = ("swept, uses pixel labels", "fixed at 0.25", "threshold-free", "baseline: all background",
             "average precision", "false-positive rate", "learning rate", "silhouette",
             "Similarity of the class tokens", "2 photos <were> odd.", "1 min 15 s", "1 min 30 s", "12.5", "1.2 GB",
             "infusion_index: 3", "not finished: segment")  # fmt: skip
    for text in words:
        assert text in page.text, text


def test_the_tables_say_what_the_scores_say(write_run: Callable[..., Path]) -> None:
    run = write_run()
    scores = read_run(run).scores["val"]
    page = Page(write_report(run))
    text = re.sub(r"\s+", " ", page.text)
    refined = scores.seeds["refined"]
    best, fixed, free = refined.best.miou, refined.fixed.miou, refined.threshold_free.miou
    interval = refined.fixed.interval
    expected = (
        f"refined {100 * best:.1f} at {refined.best_threshold:.2f} {100 * fixed:.1f} "
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f} {100 * free:.1f}"
    )
    assert expected in text
    baseline = 100 * max(refined.baselines.values())
    assert f"val {baseline:.1f} {100 * best:.1f} {100 * fixed:.1f} {100 * free:.1f}" in text
    for row in ("disc 2 2 1", "ring 3 3 1", "star 2 2 1", "all photos 6 6 3"):  # train, score, val
        assert row in text
    masks = scores.pseudo_masks
    assert f"{100 * masks.confident.miou:.1f} {100 * masks.coverage:.1f}" in text
    assert "disc 90.0 90.0 90.0 0.25 ring 50.0 50.0 50.0 0.25 star - - - 0.25 mean 70.0 80.0 60.0" in text


def test_panels_show_each_photo_with_its_classes_and_scores(write_run: Callable[..., Path]) -> None:
    page = Page(write_report(write_run()))
    assert sorted(page.values("article", "data-name")) == [f"p{i}" for i in range(9)]
    of_p0 = [alt for alt in page.values("img", "alt") if alt.endswith(", p0")]
    assert of_p0 == [f"{name}, p0" for name in ("photo", "truth", "CAM: disc", "CAM: ring", "CAM: background",
                                                "seed", "pseudo-mask", "segmentation")]  # fmt: skip
    assert '["disc", "ring"]' in page.values("article", "data-tags")
    assert set(page.values("option", "value")) >= {"", "name", "seed", "-seed", "pseudo-mask", "segmentation"}


def test_without_truth_its_parts_are_absent(write_run: Callable[..., Path]) -> None:
    page = Page(write_report(write_run(truth=False)))
    check_self_contained(page)
    assert page.sections == ["panels", *ALWAYS]
    assert "mIoU" not in page.text
    assert "truth" not in " ".join(page.values("img", "alt"))
    assert "-seed" not in page.values("option", "value")


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metrics.jsonl").write_text('{"step": 10, "epoch": 0, "lr": 0.1, "loss": 2.5}\n{"ste')
    page = Page(write_report(tmp_path))
    check_self_contained(page)
    assert page.sections == ["training"]


def test_photos_that_have_moved_away_are_said_and_left_out(write_run: Callable[..., Path], photos_root: Path) -> None:
    run = write_run()
    photos_root.rename(photos_root.with_name("elsewhere"))
    page = Page(write_report(run))
    assert "panels" not in page.sections
    assert "tokens" not in page.sections
    assert "does not exist" in page.text


def test_a_broken_photo_and_seed_leave_the_others(write_run: Callable[..., Path], photos_root: Path) -> None:
    run = write_run()
    (photos_root / "images" / "p1.jpg").write_bytes(b"no photo")
    (run / "seeds" / "p2.npz").write_bytes(b"no seed")
    page = Page(write_report(run))
    assert sorted(page.values("article", "data-name")) == ["p0", *(f"p{i}" for i in range(3, 9))]
    assert "1 more could not be read" in page.text
    assert "1 unreadable photos were left out: p1." in page.text
    assert "tokens" in page.sections


def test_pictures_stop_before_the_file_is_too_large(
    write_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cti.apps.report.panels.MAX_BYTES", 30_000)
    page = Page(write_report(write_run(truth=False)))
    shown = len(page.values("article", "data-name"))
    assert 0 < shown < NUM_PHOTOS
    assert f"{shown} of 9 photos" in page.text
    assert sum(map(len, page.values("img", "src"))) <= 30_000


def test_other_file_and_number_of_photos(write_run: Callable[..., Path], tmp_path: Path) -> None:
    run = write_run(truth=False)
    code, result = 0, commands.report(str(run), out=str(tmp_path / "elsewhere.html"), photos=2)
    assert code == 0
    assert result == {"report": str(tmp_path / "elsewhere.html")}
    assert len(Page(tmp_path / "elsewhere.html").values("article", "data-name")) == 2
    assert not (run / "report.html").exists()


def test_without_the_extra_a_run_ends_well_and_the_command_says_what_to_do(
    write_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = write_run(truth=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    config = load_config(run)
    caplog.clear()
    assert pipeline.report(Run(config)) is None
    (record,) = caplog.records
    assert re.fullmatch(r'A report needs jinja2, .*`pip install "cti\[report\]"`.*', record.getMessage())
    assert not (run / "report.html").exists()
    with pytest.raises(ModuleNotFoundError, match="needs jinja2"):
        write_report(run)


def test_scores_of_another_version_are_said_and_left_out(write_run: Callable[..., Path]) -> None:
    run = write_run()
    manifest = json.loads((run / "evaluate" / "manifest.json").read_text())
    manifest["result"]["lists"]["val"]["masks"] = {"unsure_ignored": {}}
    (run / "evaluate" / "manifest.json").write_text(json.dumps(manifest))
    page = Page(write_report(run))
    assert "scores-val" not in page.sections
    assert re.search(r"The scores are not ones of this version.*manifest\.json.*lists\.val\.masks", page.text)


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run folder"):
        write_report(tmp_path)


def test_comparison(write_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [write_run("baseline", noise=0.9, lr=1e-3), write_run("cti", noise=0.1)]
    out = compare_runs(runs, tmp_path / "out" / "compare.html")
    page = Page(out)
    check_self_contained(page)
    assert page.sections == ["scores-score", "scores-val", "panels", "training", "tokens", "settings", "cost", "data"]
    text = re.sub(r"\s+", " ", page.text)
    assert "cti - baseline" in text
    assert "train.lr 0.001 6.25e-05" in text
    assert "train.epochs" not in text
    assert "data.root" not in text
    of_p7 = [alt for alt in page.values("img", "alt") if alt.endswith(", p7")]
    assert [alt for alt in of_p7 if alt.startswith("seed")] == ["seed, baseline, p7", "seed, cti, p7"]
    assert sum(alt.startswith("truth") for alt in of_p7) == 1
    own = json.loads(
        next(attributes["data-scores"] or "" for _, attributes in page.tags if attributes.get("data-name") == "p7")
    )
    assert own["seed, cti - baseline"] == pytest.approx(own["seed, cti"] - own["seed, baseline"])
    assert f"cti: mIoU seed {100 * own['seed, cti']:.0f}, pseudo-mask" in text
    before, after = (read_run(run).scores["val"].seeds["refined"].fixed.miou for run in runs)
    difference = re.search(r"seed, fixed ([\d.]+) ([\d.]+) \+([\d.]+) \+([\d.]+) to \+([\d.]+)", text)
    assert difference is not None
    scores = read_run(runs[0]).scores["score"].seeds["refined"].fixed.miou
    assert difference[1] == f"{100 * scores:.1f}"
    low, value, high = (float(difference[place]) for place in (4, 3, 5))
    assert 0 < low < value < high
    assert after > before


def test_comparison_needs_two_runs_of_the_same_classes(write_run: Callable[..., Path], tmp_path: Path) -> None:
    run = write_run("one")
    with pytest.raises(ValueError, match="at least two"):
        compare_runs([run], tmp_path / "out.html")
    other = write_run("other")
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("classes: []", "classes: [star, ring]"))
    with pytest.raises(ValueError, match="same classes"):
        compare_runs([run, other], tmp_path / "out.html")


def test_importing_reports_stays_quick() -> None:
    code = "import cti.apps.report, sys; assert not {'jinja2', 'sklearn', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
