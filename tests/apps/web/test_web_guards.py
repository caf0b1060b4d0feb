import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cti.apps.web.guards import Limits, find_photos, is_inside, read_photo


def test_a_photo_within_the_limits_is_read_upright_rgb(tmp_path: Path, limits: Limits) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (30, 20)).save(path, exif=exif)
    image = read_photo(path, "turned.jpg", limits)
    assert (image.mode, image.size) == ("RGB", (20, 30))


def test_too_many_bytes_are_refused_before_anything_is_read(tmp_path: Path, limits: Limits) -> None:
    path = tmp_path / "secret" / "big.jpg"
    path.parent.mkdir()
    path.write_bytes(bytes(250_000))
    with pytest.raises(ValueError, match=r"^big\.jpg has 0\.2 MB, more than the 0\.2 MB allowed"):
        read_photo(path, "big.jpg", limits)


def test_too_many_pixels_are_refused_and_the_place_is_not_told(draw: Callable[..., Path], limits: Limits) -> None:
    path = draw("secret/wide.png", (400, 300))
    with pytest.raises(ValueError, match=r"wide\.png was not decoded: 400 x 300 = 120000 pixels") as error:
        read_photo(path, "wide.png", limits)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"plain text", b"\xff\xd8\xff\xe0 no jpeg", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_is_no_photo_is_refused_whatever_its_name(tmp_path: Path, limits: Limits, content: bytes) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^photo\.jpg is not a readable image"):
        read_photo(path, "photo.jpg", limits)


def test_a_missing_file_and_a_folder_are_said_by_name(tmp_path: Path, limits: Limits) -> None:
    for name in ("gone.jpg", "."):
        with pytest.raises(ValueError, match=r"^x\.jpg") as error:
            read_photo(tmp_path / name, "x.jpg", limits)
        assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("field", ["max_upload_mb", "max_pixels", "max_photos"])
def test_limits_are_positive(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is 0"):
        Limits(**{field: 0})


def test_photos_are_found_in_subfolders_and_links_that_lead_out_are_not(
    tmp_path: Path, draw: Callable[..., Path]
) -> None:
    outside = draw("outside/private.png")
    inside = draw("photos/deep/b.png")
    draw("photos/.trash/old.png")
    draw("photos/a.png")
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    (tmp_path / "photos" / "link.png").symlink_to(outside)
    (tmp_path / "photos" / "folder").symlink_to(outside.parent)
    (tmp_path / "photos" / "again.png").symlink_to(inside)
    (tmp_path / "photos" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    assert list(find_photos(tmp_path / "photos")) == ["a", "again", "deep__b"]


def test_hostile_names_of_photos_stay_names(draw: Callable[..., Path], tmp_path: Path) -> None:
    names = ["x..%2f..%2fetc%2fpasswd.png", "<img src=x onerror=alert(1)>.png", "a b;rm -rf $HOME.png", "'..'.png"]
    for name in names:
        draw(f"photos/{name}")
    found = find_photos(tmp_path / "photos")
    assert sorted(path.name for path in found.values()) == sorted(names)
    assert all(os.sep not in name for name in found)


def test_folders_that_cannot_be_reviewed(tmp_path: Path, draw: Callable[..., Path]) -> None:
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        find_photos(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no photo"):
        find_photos(tmp_path / "empty")
    draw("twice/a.png")
    draw("twice/a.jpg")
    with pytest.raises(ValueError, match="share the id 'a'"):
        find_photos(tmp_path / "twice")


def test_inside_follows_links_and_dots(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert is_inside(tmp_path / "folder", tmp_path / "folder" / "x" / ".." / "y")
    assert not is_inside(tmp_path / "folder", tmp_path / "folder" / ".." / "y")
    assert not is_inside(tmp_path / "folder", tmp_path / "folder2")
