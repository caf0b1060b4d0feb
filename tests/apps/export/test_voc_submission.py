import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti.apps.export.voc_submission import LAYOUT, check_voc_submission, write_voc_submission
from cti.classes import VOC_CLASSES, voc_palette
from cti.data.images import save_mask

IDS = ("2008_000006", "2008_000011", "2008_000012")


@pytest.fixture
def photos(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "photos").mkdir()
    for index, name in enumerate(IDS):
        Image.new("RGB", (30 + index, 20)).save(tmp_path / "photos" / f"{name}.jpg")
    return {name: tmp_path / "photos" / f"{name}.jpg" for name in IDS}


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    for index, name in enumerate(IDS):
        mask = np.zeros((20, 30 + index), dtype=np.uint8)
        mask[5:9, 3:8] = index + 1
        save_mask(tmp_path / "masks" / f"{name}.png", mask)
    return tmp_path / "masks"


@pytest.fixture
def unpacked(tmp_path: Path, photos: dict[str, Path], masks: Path) -> Path:
    """A folder that the server would take."""
    write_voc_submission(masks, photos, tmp_path / "good.tar.gz")
    with tarfile.open(tmp_path / "good.tar.gz") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    return tmp_path / "unpacked"


def test_the_archive_is_what_the_server_takes(photos: dict[str, Path], masks: Path, tmp_path: Path) -> None:
    facts = write_voc_submission(masks, photos, tmp_path / "out.tar.gz")
    assert facts.images == 3
    assert facts.pixels["aeroplane"] == 20
    assert facts.pixels["background"] == 20 * (30 + 31 + 32) - 60
    with tarfile.open(tmp_path / "out.tar.gz", "r:gz") as tar:
        assert tar.getnames() == [f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in IDS]
        for index, member in enumerate(tar.getmembers()):
            content = tar.extractfile(member).read()
            assert content[24:26] == bytes([8, 3])  # 8 bits, palette
            with Image.open(io.BytesIO(content)) as image:
                assert image.mode == "P"
                assert image.size == (30 + index, 20)
                assert image.getpalette() == voc_palette().ravel().tolist()
                assert np.unique(np.array(image)).tolist() == [0, index + 1]
    assert check_voc_submission(tmp_path / "out.tar.gz", photos) == []


def test_equal_masks_make_equal_archives(photos: dict[str, Path], masks: Path, tmp_path: Path) -> None:
    write_voc_submission(masks, photos, tmp_path / "one.tar.gz")
    again = dict(reversed(photos.items()))
    for path in masks.iterdir():
        path.touch()
    write_voc_submission(masks, again, tmp_path / "elsewhere" / "two.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "elsewhere" / "two.tar.gz").read_bytes()


def test_a_part_of_the_classes_is_renumbered(photos: dict[str, Path], masks: Path, tmp_path: Path) -> None:
    facts = write_voc_submission(masks, photos, tmp_path / "out.tar.gz", classes=("cat", "dog", "sofa"))
    assert {name for name, count in facts.pixels.items() if count} == {"background", "cat", "dog", "sofa"}
    with tarfile.open(tmp_path / "out.tar.gz") as tar:
        mask = np.array(Image.open(io.BytesIO(tar.extractfile(f"{LAYOUT}/{IDS[1]}.png").read())))
    assert np.unique(mask).tolist() == [0, VOC_CLASSES.index("dog") + 1]


def test_foreign_classes_are_refused(photos: dict[str, Path], masks: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zebra are not classes of VOC"):
        write_voc_submission(masks, photos, tmp_path / "out.tar.gz", classes=("cat", "zebra"))


def test_unusable_masks_leave_no_archive(photos: dict[str, Path], masks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tar.gz"
    save_mask(masks / f"{IDS[0]}.png", np.full((20, 30), 255, dtype=np.uint8))
    save_mask(masks / f"{IDS[1]}.png", np.zeros((21, 31), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"Values above 20 \(255, .*2008_000006\)\. Not of its .*2008_000011"):
        write_voc_submission(masks, photos, out)
    (masks / f"{IDS[2]}.png").unlink()
    with pytest.raises(ValueError, match=r"lacks 1 file \(2008_000012\) of 3"):
        write_voc_submission(masks, photos, out)
    with pytest.raises(ValueError, match="list of photos to submit is empty"):
        write_voc_submission(masks, {}, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "photos"]


def test_a_good_folder_passes(unpacked: Path, photos: dict[str, Path]) -> None:
    assert check_voc_submission(unpacked, photos) == []


def _grey(path: Path) -> None:
    Image.fromarray(np.array(Image.open(path))).save(path)


def _colour(path: Path) -> None:
    Image.open(path).convert("RGB").save(path)


def _few_bits(path: Path) -> None:
    Image.open(path).save(path, bits=4)


def _other_palette(path: Path) -> None:
    image = Image.open(path)
    image.putpalette(voc_palette()[:, ::-1].tobytes())
    image.save(path, bits=8)


def _jpeg(path: Path) -> None:
    Image.open(path).convert("L").save(path, format="JPEG")


def _turned(path: Path) -> None:
    Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path, bits=8)


def _value(value: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        mask = np.array(Image.open(path))
        mask[0, 0] = value
        save_mask(path, mask)

    return change


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (Path.unlink, "Missing"),
        (lambda path: path.write_bytes(b""), "No PNG"),
        (lambda path: path.write_bytes(path.read_bytes()[:-60]), "A damaged PNG"),
        (_jpeg, "No PNG"),
        (_grey, "Not an indexed"),
        (_colour, "Not an indexed"),
        (_few_bits, "Fewer than 8 bits"),
        (_other_palette, "Not the VOC palette"),
        (_turned, "Not of its photo's size"),
        (_value(21), "Values above 20:"),
        (_value(255), "255, unsure, must be decided"),
        (lambda path: path.rename(path.with_name("2008_000006_mask.png")), "Not on the list"),
        (lambda path: path.rename(path.with_suffix(".PNG")), "Not at"),
        (lambda path: path.with_name("notes.txt").write_text("hello"), "Not at"),
        (lambda path: shutil.copy(path, path.parents[1] / path.name), "Not at"),
        (lambda path: path.parent.rename(path.parent.with_name("comp5_test_cls")), "Not at"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_each_broken_rule_is_found(
    unpacked: Path, photos: dict[str, Path], spoil: Callable[[Path], object], problem: str, packed: bool
) -> None:
    spoil(unpacked / LAYOUT / f"{IDS[0]}.png")
    submission = unpacked
    if packed:
        submission = unpacked.with_suffix(".tar.gz")
        with tarfile.open(submission, "w:gz") as tar:
            tar.add(unpacked / "results", "results")
    found = check_voc_submission(submission, photos)
    assert any(problem in sentence and ("1 file (" in sentence or "3 files (" in sentence) for sentence in found), found


def test_an_archive_without_the_results_folder(unpacked: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "flat.tar.gz", "w:gz") as tar:
        tar.add(unpacked / "results" / "VOC2012", "VOC2012")
    found = check_voc_submission(tmp_path / "flat.tar.gz", photos)
    assert len(found) == 2
    assert found[0].startswith(f"Not at {LAYOUT}/<id>.png: 3 files (VOC2012/Segmentation/comp6_test_cls/{IDS[0]}.png")


def test_a_file_that_occurs_twice(unpacked: Path, photos: dict[str, Path], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "twice.tar.gz", "w:gz") as tar:
        tar.add(unpacked / "results", "results")
        tar.add(unpacked / LAYOUT / f"{IDS[1]}.png", f"{LAYOUT}/{IDS[1]}.png")
    assert check_voc_submission(tmp_path / "twice.tar.gz", photos) == [
        f"More than once in the archive: 1 file ({IDS[1]})."
    ]


def test_a_broken_archive(photos: dict[str, Path], masks: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.tar.gz"
    write_voc_submission(masks, photos, path)
    path.write_bytes(path.read_bytes()[:200])
    assert "is not a whole tar.gz archive" in check_voc_submission(path, photos)[0]
    path.write_text("no archive")
    assert "is not a whole tar.gz archive" in check_voc_submission(path, photos)[0]
    with pytest.raises(FileNotFoundError, match=r"There is no submission .*gone.tar.gz"):
        check_voc_submission(tmp_path / "gone.tar.gz", photos)


def test_no_flipped_byte_escapes_as_another_error(photos: dict[str, Path], masks: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.tar.gz"
    write_voc_submission(masks, photos, path)
    whole = path.read_bytes()
    for position in range(0, len(whole), 23):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        for sentence in check_voc_submission(path, photos):
            assert sentence.endswith(".")
