"""The page in a real browser: opened as a file, without network, on a wide screen and on a phone."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cti.apps.report import compare_runs, write_report

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
pytestmark = pytest.mark.slow
WIDE, PHONE = 1280, 390


@pytest.fixture
def report_path(write_run: Callable[..., Path]) -> Path:
    return write_report(write_run())


@pytest.fixture
def comparison_path(write_run: Callable[..., Path], tmp_path: Path) -> Path:
    runs = [write_run("a-baseline-of-a-long-name"), write_run("another-run-of-a-long-name")]
    return compare_runs(runs, tmp_path / "compare.html")


@pytest.fixture(params=[("report_path", WIDE), ("report_path", PHONE), ("comparison_path", PHONE)])
def page(request: pytest.FixtureRequest) -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    name, width = request.param
    path = request.getfixturevalue(name)
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_context(viewport={"width": width, "height": 800}, offline=True).new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith("http") else None)
        tab.goto(path.as_uri())
        yield tab
        browser.close()
    assert complaints == []


@pytest.mark.parametrize("page", [("report_path", WIDE), ("report_path", PHONE)], indirect=True)
def test_sort_filter_and_enlarge(page: Any) -> None:
    names = page.locator(".panel:visible h3")
    assert names.count() == 9
    page.select_option("[name=tag]", "star")
    assert sorted(names.all_inner_texts()) == ["p2", "p5", "p8"]
    assert page.inner_text("output") == "3 of 3 photos"
    page.select_option("[name=list]", "val")
    assert names.all_inner_texts() == ["p8"]
    page.select_option("[name=tag]", "")
    page.select_option("[name=list]", "")
    page.select_option("[name=order]", "-seed")
    scores = [float(text) for text in page.locator(".facts span:first-child b").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)

    page.click("[data-name=p7] .strip button >> nth=0")
    large = page.locator("dialog img")
    assert large.get_attribute("alt") == "photo, p7"
    page.keyboard.press("ArrowRight")
    assert large.get_attribute("alt") == "truth, p7"
    page.keyboard.press("Escape")
    assert not large.is_visible()


def test_nothing_sticks_out_at_the_side(page: Any) -> None:
    widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]
