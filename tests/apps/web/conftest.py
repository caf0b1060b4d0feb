"""A network that answers at once and counts how often it is asked."""

from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from PIL import Image

from cti.apps.web.cards import Desk
from cti.apps.web.guards import Limits
from cti.apps.web.review import Review
from cti.predict.prediction import Analysis
from tiny import CLASSES

LIMITS = Limits(max_upload_mb=0.2, max_pixels=100_000, max_photos=3)


@pytest.fixture(scope="module")
def stub_network() -> type["StubNetwork"]:
    return StubNetwork


class StubNetwork:
    """Class i fills quarter i of the photo; the score of disc is the photo's first red value, so that photos differ.

    Args:
        background: Whether it has a background of its own.
    """

    def __init__(self, background: bool = True) -> None:
        self.classes = CLASSES
        self.background = background
        self.runs: list[tuple[int, int]] = []  # (width, height) of each photo it was asked about
        self.inside = self.most_inside = 0
        self.free = Event()  # cleared: whoever asks has to wait
        self.free.set()

    def analyse(self, image: Image.Image) -> Analysis:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.free.wait(20)
        self.runs.append(image.size)
        red = image.getpixel((0, 0))[0]
        maps = np.zeros((3, 4, 4), np.float32)
        maps[0, :2, :2], maps[1, :2, 2:], maps[2, 2:, :2] = 1, 1, 1
        maps += np.linspace(0, 0.3, 16, dtype=np.float32).reshape(4, 4)
        self.inside -= 1
        return Analysis(
            image=image,
            source="",
            classes=CLASSES,
            scores=np.array([red / 255, 0.6, 0.1], np.float32),
            predicted=(0,),
            maps=maps,
            background=np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4) if self.background else None,
            kind="cti",
            threshold=0.25,
        )


@pytest.fixture
def network() -> StubNetwork:
    return StubNetwork()


@pytest.fixture
def desk(network: StubNetwork) -> Desk:
    return Desk(network)


@pytest.fixture
def limits() -> Limits:
    return LIMITS


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """Writes a photo of one colour."""

    def write(name: str, size: tuple[int, int] = (40, 24), red: int = 200) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (red, 60, 90)).save(path)
        return path

    return write


@pytest.fixture
def review(tmp_path: Path, draw: Callable[..., Path]) -> Review:
    """Three photos, one in a sub-folder."""
    for place, name in enumerate(("a.png", "b.jpg", "deep/c.png")):
        draw(f"photos/{name}", red=10 * (place + 1))
    return Review(tmp_path / "photos", tmp_path / "verdicts")
