"""The page in a real headless Chromium: `make test-web`."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cti import pipeline
from cti.apps.web.cards import Desk
from cti.apps.web.guards import Limits
from cti.apps.web.review import Review
from cti.apps.web.run_review import RunReview
from cti.apps.web.server import open_page
from cti.data.images import load_mask
from cti.data.readers.shapes import render_scene
from cti.files import read_json
from cti.method.checkpoint import save_model
from cti.predict.prediction import Analysis
from cti.predict.predictor import Predictor
from cti.run import Run
from tiny import CLASSES, make_run, tiny_model

pytest.importorskip("gradio", reason="needs Gradio: pip install 'cti[web]'")
playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'cti[web-test]'")
expect = playwright.expect
pytestmark = pytest.mark.web
LIMITS = Limits(max_upload_mb=0.5, max_pixels=100_000)
PATIENCE = 60_000  # milliseconds: the machine may be busy


class CountedNetwork:
    """A network that counts how often it runs, and can be held up."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.classes, self.runs = predictor, predictor.classes, 0
        self.free = Event()
        self.free.set()

    def analyse(self, image: Image.Image) -> Analysis:
        self.free.wait(60)
        self.runs += 1
        return self.predictor.analyse(image)


@dataclass(frozen=True)
class Site:
    address: str
    network: CountedNetwork
    review: Review
    files: Path


def draw(path: Path, index: int, size: int = 96) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render_scene(0, index, size).image).save(path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not chromium or not Path(chromium).exists():
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--enable-unsafe-swiftshader", "--disable-background-networking"]
        yield driver.chromium.launch(executable_path=chromium, args=flags)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    save_model(folder / "model", tiny_model())
    network = CountedNetwork(Predictor.from_pretrained(folder / "model"))
    for index, name in enumerate(("a.png", "b <i>.png", "deep/c.png")):
        draw(folder / "photos" / name, index)
    review = Review(folder / "photos", folder / "verdicts")
    with open_page(Desk(network), LIMITS, review, title="cti: tiny") as address:
        yield Site(address, network, review, folder / "files")


@pytest.fixture
def visit(browser: Any, site: Site) -> Iterator[Any]:
    """Opens the page as another visitor each time; nothing may come from elsewhere or go wrong in the browser."""
    contexts, complaints = [], list[str]()

    def open_it() -> Any:
        contexts.append(browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        local = (site.address, "data:", "blob:")
        page.on("request", lambda asked: None if asked.url.startswith(local) else complaints.append(asked.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.goto(site.address)
        expect(page.locator("#scores table")).to_be_visible()  # the first photo to review
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(visit: Any) -> Any:
    """The page with the tab for a visitor's own photos in front."""
    tab = visit()
    tab.get_by_role("tab", name="Your photos").click()
    expect(tab.locator("#scores table")).to_have_count(0)
    return tab


def hand_in(page: Any, *files: Path) -> None:
    page.locator("#upload input[type=file]").set_input_files(files)
    expect(page.locator("#status")).to_contain_text(f"{len(files)} of {len(files)} files done.")
    expect(page.locator("#upload input[type=file]")).to_have_count(1)  # ready for more


def picture(page: Any, name: str) -> str:
    return str(page.locator(f"#{name} img").first.get_attribute("src"))


def wait_for_other_picture(page: Any, name: str, before: str) -> None:
    expect(page.locator(f"#{name} img").first).not_to_have_attribute("src", before)


def test_sliders_change_the_pictures_and_the_network_is_not_asked_again(page: Any, site: Site) -> None:
    runs = site.network.runs
    hand_in(page, draw(site.files / "own.png", 7))
    assert site.network.runs == runs + 1
    overlay, mask = picture(page, "overlay"), picture(page, "mask")
    page.get_by_role("slider", name=re.compile("Opacity")).press("ArrowRight")
    wait_for_other_picture(page, "overlay", overlay)
    assert picture(page, "mask") == mask
    overlay = picture(page, "overlay")
    page.get_by_role("slider", name=re.compile("Threshold")).press("End")
    wait_for_other_picture(page, "mask", mask)
    wait_for_other_picture(page, "overlay", overlay)
    assert "0.0%" in page.locator("#scores tr.tagged").first.inner_text()  # nothing is above 1
    mask = picture(page, "mask")
    page.get_by_label("background's own map").check()
    wait_for_other_picture(page, "mask", mask)
    expect(page.get_by_role("slider", name=re.compile("Threshold"))).to_be_disabled()
    assert site.network.runs == runs + 1


def test_corrected_tags_change_mask_and_maps(page: Any, site: Site) -> None:
    hand_in(page, draw(site.files / "own.png", 7))
    runs, tags = site.network.runs, page.locator("#tags")
    predicted = [name for name in CLASSES if tags.get_by_label(name).is_checked()]
    for name in CLASSES:
        tags.get_by_label(name).check()
    expect(page.locator("#scores tr.tagged")).to_have_count(3)
    expect(page.locator("#cams .thumbnail-item, #cams .thumbnail-lg")).to_have_count(4)  # the background's too
    assert {name for name in (*CLASSES, "background") if page.locator("#cams").get_by_text(name).count()} == {
        *CLASSES,
        "background",
    }
    mask = picture(page, "mask")
    for name in CLASSES:
        tags.get_by_label(name).uncheck()
    wait_for_other_picture(page, "mask", mask)
    expect(page.locator("#scores tr.tagged")).to_have_count(0)
    page.get_by_role("button", name="Use the predicted tags").click()
    expect(page.locator("#scores tr.tagged")).to_have_count(len(predicted))
    assert [name for name in CLASSES if tags.get_by_label(name).is_checked()] == predicted
    assert site.network.runs == runs


def test_indexed_png_and_coco_json_are_taken_away(page: Any, site: Site, tmp_path: Path) -> None:
    hand_in(page, draw(site.files / "own.png", 7))
    page.locator("#tags").get_by_label("star").check()
    expect(page.locator("#scores tr.tagged").filter(has_text="star")).to_have_count(1)
    page.get_by_role("button", name="Make files to download").click()
    taken, links = {}, page.locator("#files a[download]")
    expect(links).to_have_count(2)
    for link in links.all():
        with page.expect_download() as waiting:
            link.click()
        taken[waiting.value.suggested_filename] = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(taken[waiting.value.suggested_filename])
    assert set(taken) == {"own.png", "masks.coco.json"}
    mask = load_mask(taken["own.png"], num_classes=len(CLASSES))
    assert mask.shape == (96, 96)
    assert 3 in np.unique(mask)
    coco = read_json(taken["masks.coco.json"])
    assert coco["images"][0]["file_name"] == "own.png"
    assert {one["category_id"] for one in coco["annotations"]} == set(np.unique(mask).tolist()) - {0}


def test_wrong_files_are_refused_with_a_reason(page: Any, site: Site, tmp_path: Path) -> None:
    runs = site.network.runs
    disguised = tmp_path / "notes.jpg"
    disguised.write_text("no photo")
    hand_in(page, disguised)
    expect(page.locator("#status")).to_contain_text("notes.jpg is not a readable image")
    wide = tmp_path / "wide.png"
    Image.new("RGB", (500, 400)).save(wide)
    hand_in(page, wide)
    expect(page.locator("#status")).to_contain_text("wide.png was not decoded: 500 x 400 = 200000 pixels")
    assert str(tmp_path) not in page.locator("#status").inner_text()
    (tmp_path / "notes.txt").write_text("no photo")
    page.locator("#upload input[type=file]").set_input_files(tmp_path / "notes.txt")
    expect(page.get_by_text(re.compile("Invalid file type"))).to_be_visible()
    assert site.network.runs == runs


def test_a_huge_file_is_refused_with_its_limit(page: Any, site: Site, tmp_path: Path) -> None:
    runs, huge = site.network.runs, tmp_path / "huge.png"
    huge.write_bytes(os.urandom(LIMITS.max_bytes + 1))
    page.locator("#upload input[type=file]").set_input_files(huge)
    expect(page.get_by_text(re.compile("exceed", re.IGNORECASE)).first).to_be_visible()
    hand_in(page, draw(site.files / "own.png", 7))  # and the page goes on
    assert site.network.runs == runs + 1


def test_the_review_list_is_judged_by_keys_and_kept(visit: Any, site: Site) -> None:
    page = visit()
    listed = page.locator("#listed label")
    expect(listed).to_have_text(["○ a.png", "○ b <i>.png", "○ deep/c.png"])
    page.keyboard.press("a")
    expect(page.locator("#status")).to_have_text("a is accepted.")
    expect(listed).to_have_text(["✓ a.png", "○ b <i>.png", "○ deep/c.png"])
    assert load_mask(site.review.out / "a.png").shape == (96, 96)
    page.keyboard.press("n")
    expect(listed.nth(2).locator("input")).to_be_checked()
    page.keyboard.press("p")
    expect(listed.nth(1).locator("input")).to_be_checked()
    page.keyboard.press("r")
    expect(listed).to_have_text(["✓ a.png", "✗ b <i>.png", "○ deep/c.png"])
    page.get_by_label("accepted (1)").check()
    expect(listed).to_have_text(["✓ a.png", "○ deep/c.png"])  # and the photo in sight
    page.get_by_label("all (3)").check()
    listed.nth(0).click()
    expect(page.locator("#listed label").nth(0).locator("input")).to_be_checked()
    page.get_by_role("button", name="Make files to download").click()
    expect(page.locator("#files a[download]")).to_have_count(2)
    again = Review(site.review.folder, site.review.out)  # what a restarted server reads
    assert again.counts() == {"open": 1, "accepted": 1, "rejected": 1}
    other = visit()
    expect(other.locator("#listed label")).to_have_text(["✓ a.png", "✗ b <i>.png", "○ deep/c.png"])
    expect(other.locator("#listed label").nth(2).locator("input")).to_be_checked()  # the next one without a verdict
    other.get_by_role("button", name="Accept (A)").click()
    expect(other.locator("#status")).to_have_text("Every photo of the list is judged.")


def test_two_visitors_and_a_slow_network(visit: Any, site: Site) -> None:
    first, second = visit(), visit()
    for number, page in enumerate((first, second)):
        page.get_by_role("tab", name="Your photos").click()
        hand_in(page, draw(site.files / f"own{number}.png", 7 + number))
    first_picture, second_picture = picture(first, "overlay"), picture(second, "overlay")
    assert first_picture != second_picture
    site.network.free.clear()
    try:
        more = draw(site.files / "more.png", 3)
        first.locator("#upload input[type=file]").set_input_files(more)
        second.get_by_role("slider", name=re.compile("Opacity")).press("End")
        wait_for_other_picture(second, "overlay", second_picture)  # though the network is busy
        first.get_by_role("slider", name=re.compile("Opacity")).press("End")
        wait_for_other_picture(first, "overlay", first_picture)
    finally:
        site.network.free.set()
    expect(first.locator("#status")).to_contain_text("1 of 1 files done.")
    expect(first.get_by_label("Photo", exact=True)).to_have_value("more.png")
    expect(second.get_by_label("Photo", exact=True)).to_have_value("own1.png")


def test_the_keyboard_reaches_everything_and_every_control_has_a_name(page: Any, site: Site) -> None:
    hand_in(page, draw(site.files / "own.png", 7))
    wanted = {"upload", "tags", "predict", "opacity", "threshold", "free", "download", "cams"}
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached |= {name for name in wanted if page.locator(f"#{name}:focus, #{name} :focus").count()}
    assert reached == wanted
    named = """() => [...document.querySelectorAll('input, button, select, textarea')]
        .filter(e => e.offsetParent !== null && e.type !== 'file')
        .filter(e => !(e.innerText.trim() || e.ariaLabel || e.title || e.labels?.length
                       || e.getAttribute('aria-labelledby') || e.querySelector('img[alt]:not([alt=""])')))
        .map(e => e.outerHTML.slice(0, 200))"""
    assert page.evaluate(named) == []
    assert page.locator("#status").get_attribute("role") == "status"
    assert page.locator("#overlay img").get_attribute("alt")
    with page.expect_file_chooser():
        page.locator("#upload button").first.focus()
        page.keyboard.press("Enter")


def test_a_runs_own_photos_are_corrected_with_the_brush(browser: Any, tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    pipeline.evaluate(Run.open(folder))
    review, context = RunReview(Run.open(folder), "p3"), browser.new_context(viewport={"width": 1280, "height": 1100})
    before = load_mask(folder / "masks" / "p3.png")
    with open_page(Desk(Predictor.from_pretrained(folder)), LIMITS, review) as address:
        page = context.new_page()
        page.goto(address, timeout=PATIENCE)
        expect(page.locator("#scores table")).to_be_visible()
        expect(page.locator("#layer input:checked")).to_have_value("mask")
        expect(page.locator("#status")).to_contain_text(review.remarks("p3"))
        page.locator("#correct button").first.click()
        expect(page.locator("#editor canvas").first).to_be_visible()
        page.wait_for_timeout(3000)  # the canvas takes the photo in
        box = page.locator("#editor canvas").first.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x - 60, y)
        page.mouse.down()
        page.mouse.move(x + 60, y, steps=10)
        page.mouse.up()
        page.wait_for_timeout(1000)
        page.locator("#use").click()
        expect(page.locator("#layer input:checked")).to_have_value("corrected")
        page.keyboard.press("a")
        expect(page.get_by_label("accepted (1)")).to_be_attached()
        page.keyboard.press("0")
        expect(page.get_by_label("accepted (2)")).to_be_attached()
    context.close()
    after = load_mask(folder / "review" / "p3.png")
    middle = after[after.shape[0] // 2, after.shape[1] // 2 - 3 : after.shape[1] // 2 + 3]
    assert (middle == 1).all()  # the first colour is the first class
    assert set(np.unique(after[after != before]).tolist()) == {1}
