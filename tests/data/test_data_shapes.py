"""The rendered set: deterministic, learnable in principle, an ordinary folder data set, written once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti.config import DataConfig
from cti.data import read_photos
from cti.data.readers.shapes import SHAPES_CLASSES, render_scene, render_shapes
from cti.data.readers.shapes_art import draw_object


def test_a_scene_depends_on_its_seed_and_index_only() -> None:
    first, again = render_scene(1, 2, 48), render_scene(1, 2, 48)
    assert (first.image == again.image).all()
    assert (first.mask == again.mask).all()
    assert (first.image != render_scene(1, 3, 48).image).any()
    assert (first.image != render_scene(2, 2, 48).image).any()


def test_tags_are_what_the_mask_shows() -> None:
    seen = set()
    for index in range(60):
        scene = render_scene(0, index, 64)
        assert scene.image.shape == (64, 64, 3)
        assert scene.image.dtype == np.uint8
        assert 1 <= len(scene.classes) <= 3
        assert set(np.unique(scene.mask)) - {0} == {tag + 1 for tag in scene.classes}
        # Every tag can be seen: what is left of a class is worth at least half a small object, cut by the border.
        assert min((scene.mask == tag + 1).sum() for tag in scene.classes) >= 25
        assert (scene.mask == 0).mean() > 0.15
        seen |= set(scene.classes)
    assert seen == set(range(len(SHAPES_CLASSES)))


def test_the_hue_is_a_hint_and_no_proof() -> None:
    canvas = np.full((64, 64, 3), 0.5)
    colours = np.array([
        [image[alpha > 0.5].mean(axis=0) for image, alpha in (
            draw_object(np.random.default_rng((seed, class_index)), canvas, class_index, (32, 32), 16)
            for seed in range(60)
        )]
        for class_index in range(len(SHAPES_CLASSES))
    ])  # (C, 60, 3)  # fmt: skip
    centres = colours[:, :30].mean(axis=1)
    nearest = np.linalg.norm(colours[:, 30:, None] - centres, axis=-1).argmin(axis=-1)
    right = (nearest == np.arange(len(SHAPES_CLASSES))[:, None]).mean()
    assert 2 / len(SHAPES_CLASSES) < right < 0.9
    # What is behind the objects has every hue, so that no hue belongs to a class.
    behind = np.concatenate([scene.image[scene.mask == 0] for scene in (render_scene(0, i, 48) for i in range(60))])
    hues = np.array(Image.fromarray(behind[None]).convert("HSV"))[0, :, 0] / 255
    shares = np.histogram(hues, bins=6, range=(0, 1))[0] / len(hues)
    assert shares.min() > 0.05


@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("disc", np.pi * 0.88**2),
        ("square", 1.52**2),
        ("triangle", 0.75 * 3**0.5 * 1.08**2),
        ("ring", 2 * np.pi * 0.68 * 0.54),
        ("cross", 2 * 0.66 * 1.96 - 0.66**2),
        ("star", 5 * 1.12 * 0.52 * np.sin(np.pi / 5)),
    ],
)
def test_outlines_enclose_about_the_same_area(name: str, area: float) -> None:
    """In squares of the radius; the area is no mark of a class."""
    assert 1.5 < area < 2.5
    index = SHAPES_CLASSES.index(name)
    for seed in range(3):
        _, alpha = draw_object(np.random.default_rng(seed), np.full((96, 96, 3), 0.5), index, (48, 48), 30)
        assert alpha.sum() / 30**2 == pytest.approx(area, rel=0.005)


def test_scenes_are_those_that_results_were_measured_on() -> None:
    """Mean grey level, mean step to the right and downwards, and pixels of each class; other scenes, other figures."""
    expected = [
        (110.18, 13.08, 12.50, {0: 3344, 4: 752}),
        (103.32, 15.39, 15.24, {0: 2682, 4: 501, 5: 664, 6: 249}),
        (108.65, 5.25, 5.02, {0: 3846, 6: 250}),
        (110.44, 7.26, 5.84, {0: 3545, 1: 353, 3: 198}),
        (107.28, 10.39, 13.26, {0: 2797, 3: 394, 5: 905}),
        (107.35, 14.74, 14.51, {0: 3022, 2: 599, 4: 475}),
        (107.31, 6.20, 5.93, {0: 3248, 1: 848}),
        (126.17, 12.97, 11.68, {0: 3511, 3: 249, 5: 336}),
    ]
    for index, (mean, right, down, pixels) in enumerate(expected):
        scene = render_scene(0, index, 64)
        image = scene.image.astype(float)
        steps = (np.abs(np.diff(image, axis=axis)).mean() for axis in (1, 0))
        assert (image.mean(), *steps) == pytest.approx((mean, right, down), abs=0.05)
        found = np.bincount(scene.mask.ravel())
        assert {int(value): int(found[value]) for value in np.flatnonzero(found)} == pytest.approx(pixels, abs=2)


@pytest.mark.parametrize("class_index", range(len(SHAPES_CLASSES)))
def test_an_object_stays_where_it_is_put(class_index: int) -> None:
    image, alpha = draw_object(np.random.default_rng(0), np.full((80, 80, 3), 0.5), class_index, (40, 30), 14)
    rows, columns = np.nonzero(alpha > 0.5)
    assert np.hypot(rows - 40, columns - 30).max() <= 1.2 * 14
    assert abs(rows.mean() - 40) < 2
    assert abs(columns.mean() - 30) < 2
    assert ((image >= 0) & (image <= 1)).all()
    assert (image[:15] == 0.5).all()


def test_the_set_is_rendered_once_and_read_as_any_other(tmp_path: Path) -> None:
    config = DataConfig(root=str(tmp_path / "shapes"), format="shapes")
    render_shapes(tmp_path / "shapes", count=20, size=32, seed=5)
    stamp = (tmp_path / "shapes" / "shapes.json").stat().st_mtime_ns
    photos = read_photos(config)
    assert (tmp_path / "shapes" / "shapes.json").stat().st_mtime_ns == stamp
    assert photos.classes == SHAPES_CLASSES
    assert [len(photos.lists[name]) for name in ("train", "score", "val")] == [17, 17, 3]
    assert photos.has_masks
    for index, photo in enumerate(sorted(photos.photos(), key=lambda photo: photo.id)):
        scene = render_scene(5, index, 32)
        assert photo.tags == scene.classes
        assert photo.mask is not None
        assert (photo.mask.load() == scene.mask).all()
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_nothing_else_is_overwritten_and_nothing_half_done_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="name an empty or a new folder"):
        render_shapes(tmp_path / "mine", count=4)
    with pytest.raises(ValueError, match="at least 2 images"):
        render_shapes(tmp_path / "few", count=1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cti.data.readers.shapes.save_mask", killed)
    with pytest.raises(KeyboardInterrupt):
        render_shapes(tmp_path / "new", count=4, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
