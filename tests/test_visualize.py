import numpy as np
import pytest
from PIL import Image

from cti.visualize import display_palette, heat, legend, overlay, panel_row, panels, save_panels

CLASSES = ("cat", "dog", "cow", "horse")


@pytest.fixture
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def test_overlay_leaves_the_background_and_paints_classes_and_outlines(photo):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 10:30] = 2
    pixels, before = np.asarray(overlay(photo, mask, alpha=0.5)), np.asarray(photo)
    colour = display_palette()[2].astype(float)
    np.testing.assert_array_equal(pixels[mask == 0], before[mask == 0])
    np.testing.assert_array_equal(pixels[10, 10:30], np.broadcast_to(display_palette()[2], (20, 3)))
    np.testing.assert_allclose(pixels[20, 20], (before[20, 20] + colour) / 2, atol=0.51)
    assert np.array_equal(overlay(photo, mask, alpha=0.0).getpixel((20, 20)), photo.getpixel((20, 20)))


def test_overlay_shows_unsure_pixels_and_takes_a_palette(photo):
    mask = np.full((40, 60), 255, np.uint8)
    assert not np.array_equal(np.asarray(overlay(photo, mask)), np.asarray(photo))
    palette = np.zeros((256, 3), np.uint8)
    palette[1] = (1, 2, 3)
    assert overlay(photo, np.ones((40, 60), int), palette, alpha=1.0).getpixel((5, 5)) == (1, 2, 3)


def test_heat_is_over_the_greyscale_photo_or_alone(photo):
    cam = np.zeros((40, 60), np.float32)
    cam[:, 30:] = 1
    alone, over = np.asarray(heat(cam)).astype(int), np.asarray(heat(cam, photo, alpha=0.5)).astype(int)
    assert alone.shape == (40, 60, 3)
    assert not np.array_equal(alone[0, 0], alone[0, 59])
    grey = np.asarray(photo.convert("L")).astype(int)
    np.testing.assert_allclose(over, (grey[..., None] + alone) / 2, atol=1)


@pytest.mark.parametrize("draw", [overlay, lambda image, values: heat(values / 1.0, image)])
def test_wrong_size_is_named(photo, draw):
    with pytest.raises(ValueError, match=r"\(60, 40\).*40 rows and 60 columns"):
        draw(photo, np.zeros((60, 40), np.uint8))


def test_row_has_a_cell_for_what_is_known_only(photo):
    mask = np.zeros((40, 60), np.uint8)
    cams = np.zeros((4, 40, 60), np.float32)
    assert list(panel_row(photo, CLASSES).cells) == ["photo"]
    row = panel_row(
        photo, CLASSES, {"seed": mask + 2}, name="one", cams=cams, class_indices=(3, 0, 1, 2), background_cam=cams[0]
    )
    assert list(row.cells) == ["photo", "CAM 1", "CAM 2", "CAM 3", "background CAM", "seed"]
    assert [row.cells[f"CAM {place}"].caption for place in (1, 2, 3)] == [
        "CAM: horse",
        "CAM: cat",
        "CAM: dog (and 1 more)",
    ]
    assert row.values == {2}


def test_panels_align_columns_and_drop_absent_ones(photo):
    mask = np.ones((40, 60), np.uint8)
    cams = np.zeros((2, 40, 60), np.float32)
    one = panel_row(photo, CLASSES, cams=cams[:1], class_indices=(0,), masks={"seed": mask})
    two = panel_row(photo.rotate(90, expand=True), CLASSES, {"seed": mask.T})
    page = np.asarray(panels([two, one], CLASSES, cell_width=60))
    assert page.shape[1] == 6 + 3 * 66  # photo, seed, CAM 1
    assert (page[6:66, 6 + 2 * 66 : 6 + 2 * 66 + 60] == 255).all()  # the first row has no CAM, and no hole
    assert not (page[6:66, 6 + 66 : 6 + 66 + 60] == 255).all()
    narrow = np.asarray(panels([two], CLASSES, cell_width=60))
    assert narrow.shape[1] == 6 + 2 * 66
    with pytest.raises(ValueError, match="no row"):
        panels([], CLASSES)


def test_long_captions_are_cut_to_the_width_of_their_cell(photo):
    page = np.asarray(panels([panel_row(photo, CLASSES, name="a very long name " * 9)] * 2, CLASSES, cell_width=80))
    assert (page[:, :6] == 255).all()
    assert (page[:, -6:] == 255).all()


def test_legend_shows_the_colours_and_wraps():
    strip = legend(CLASSES, [0, 1, 3, 255], 500)
    colours = {tuple(pixel) for pixel in np.asarray(strip).reshape(-1, 3).tolist()}
    palette = display_palette()
    assert {tuple(palette[value].tolist()) for value in (1, 3, 255)} <= colours
    assert tuple(palette[2].tolist()) not in colours
    assert legend(CLASSES, [1, 2, 3, 4], 80).height > legend(CLASSES, [1, 2, 3, 4], 800).height


def test_palette_colours_are_all_different():
    assert len({tuple(colour) for colour in display_palette()[:81].tolist()}) == 81


def test_saved_panels_are_a_picture(photo, tmp_path):
    save_panels(
        tmp_path / "new" / "panels.png", [panel_row(photo, CLASSES, {"truth": np.ones((40, 60), np.uint8)})], CLASSES
    )
    with Image.open(tmp_path / "new" / "panels.png") as page:
        assert page.width == 6 + 2 * 246
