"""Retake docs/web-*.png with a trained network: make web-screenshots RUN=runs/animals PHOTOS=folder TAGS="cat sofa".

Needs what `make test-web` installs. The first photos of the folder are shown; nothing is written beside them.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from cti.apps.web.cards import Desk
from cti.apps.web.guards import Limits
from cti.apps.web.review import Review
from cti.apps.web.server import open_page
from cti.files import atomic_path
from cti.predict.predictor import Predictor

WIDE = {"width": 1280, "height": 900}
PATIENCE = 120_000  # milliseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="what Predictor.from_pretrained takes")
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("--tags", nargs="+", default=None, help="tags of the first photo (default: predicted)")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for the pictures (default: %(default)s)")
    given = parser.parse_args()
    desk = Desk(Predictor.from_pretrained(given.run))
    with tempfile.TemporaryDirectory() as verdicts, sync_playwright() as driver:
        review = Review(given.photos, Path(verdicts) / "review")
        chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        expect.set_options(timeout=PATIENCE)
        with open_page(desk, Limits(), review, title=f"cti: {Path(given.run).name}") as address:
            page = opened(browser, address, "light")
            own_photo(page, next(iter(review.photos.values())), given.tags)
            save(page, given.out / "web-photo.png")
            page = opened(browser, address, "dark")
            for key, judged in (("a", 1), ("a", 2), ("r", 3)):
                page.keyboard.press(key)
                expect(page.get_by_label(f"open ({len(review.photos) - judged})")).to_be_attached()
            save(page, given.out / "web-review.png")
        browser.close()


def opened(browser: Any, address: str, scheme: str) -> Any:
    page = browser.new_context(viewport=WIDE, color_scheme=scheme).new_page()
    page.goto(address, timeout=PATIENCE)
    expect(page.locator("#scores table")).to_be_visible()
    return page


def own_photo(page: Any, photo: Path, tags: list[str] | None) -> None:
    page.get_by_role("tab", name="Your photos").click()
    expect(page.locator("#scores table")).to_have_count(0)
    page.locator("#upload input[type=file]").set_input_files(photo)
    expect(page.locator("#status")).to_contain_text("1 of 1 files done.")
    for box in page.locator("#tags label").all() if tags else ():
        box.locator("input").set_checked(box.inner_text().strip() in tags)
        page.wait_for_timeout(1000)


def save(page: Any, path: Path) -> None:
    """A screenshot in 256 colours, which is a third of the size; chosen so that small swatches keep theirs."""
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(3000)  # pictures fade in
    with atomic_path(path) as temporary:
        page.screenshot(path=temporary)
        with Image.open(temporary) as picture:
            few = picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=2)
        few.save(temporary, optimize=True)


if __name__ == "__main__":
    main()
