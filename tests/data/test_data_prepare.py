"""Preparing benchmarks from archives that are there, and saying what to put where when none can be had."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cti.config import DataConfig
from cti.data import load_mask, read_photos, save_mask
from cti.data import prepare as prepare_module
from cti.data.prepare import ARCHIVES, Archive, prepare


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and archives of any content."""

    def unreachable(*_: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(prepare_module, "download_url", unreachable)
    for name, archives in list(ARCHIVES.items()):
        plain = tuple(Archive(a.url, a.name, "", a.proof) for a in archives)
        monkeypatch.setitem(ARCHIVES, name, plain)


def _jpeg(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), (value, 0, 0)).save(buffer, format="jpeg")
    return buffer.getvalue()


def _tar(path: Path, files: dict[str, bytes], mode: str) -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _mask(value: int, folder: Path) -> bytes:
    save_mask(folder / "mask.png", np.full((5, 6), value, dtype=np.uint8))
    return (folder / "mask.png").read_bytes()


def _mat(value: int) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {"GTcls": {"Segmentation": np.full((5, 6), value, dtype=np.uint8)}})
    return buffer.getvalue()


def test_voc12_becomes_train_aug(tmp_path: Path) -> None:
    voc, sbd = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
    xml = b"<annotation><object><name>cat</name></object></annotation>"
    files = {f"{voc}/JPEGImages/{name}.jpg": _jpeg(value) for value, name in enumerate(("a", "b", "c", "d"))}
    files |= {f"{voc}/Annotations/{name}.xml": xml for name in "abcd"}
    files |= {f"{voc}/SegmentationClass/{name}.png": _mask(8, tmp_path) for name in "ab"}
    files |= {f"{voc}/ImageSets/Segmentation/train.txt": b"a\n", f"{voc}/ImageSets/Segmentation/val.txt": b"b\n"}
    root = tmp_path / "data"
    root.mkdir()
    _tar(root / ARCHIVES["voc12"][0].name, files, "w")
    outlines = {f"{sbd}/train.txt": b"c\nb\n", f"{sbd}/val.txt": b"d\na\n"}
    outlines |= {f"{sbd}/cls/{name}.mat": _mat(9) for name in "abcd"}
    _tar(root / ARCHIVES["voc12"][1].name, outlines, "w:gz")

    folder = prepare("voc12", root)
    assert (folder / "ImageSets/Segmentation/train_aug.txt").read_text().split() == ["a", "c", "d"]
    photos = read_photos(DataConfig(root=str(root), train="train_aug"))
    assert [photo.id for photo in photos.lists["train"]] == ["a", "c", "d"]
    values = {photo.id: int(photo.mask.load().max()) for photo in photos.photos() if photo.mask}
    assert values == {"a": 8, "b": 8, "c": 9, "d": 9}

    for archive in ARCHIVES["voc12"]:
        (root / archive.name).unlink()
    assert prepare("voc12", root) == folder  # done already: needs no archive


def test_coco14_gets_masks(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    categories = [{"id": 3, "name": "car"}]
    square = {
        "id": 1,
        "image_id": 1,
        "category_id": 3,
        "area": 4,
        "iscrowd": 0,
        "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]],
    }
    with zipfile.ZipFile(tmp_path / "annotations_trainval2014.zip", "w") as notes:
        for part in ("train2014", "val2014"):
            image = {"id": 1, "file_name": f"{part}_1.jpg", "width": 6, "height": 5}
            content = {"images": [image], "annotations": [square], "categories": categories}
            notes.writestr(f"annotations/instances_{part}.json", json.dumps(content))
            with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as pictures:
                pictures.writestr(f"{part}/{part}_1.jpg", _jpeg(1))
    assert prepare("coco14", tmp_path) == tmp_path
    expected = np.zeros((5, 6), dtype=np.uint8)
    expected[:2, :2] = 1
    assert (load_mask(tmp_path / "masks/train2014/train2014_1.png", 1) == expected).all()
    photos = read_photos(DataConfig(root=str(tmp_path)))
    assert photos.has_masks
    assert (photos.lists["val"][0].image).is_file()


def test_missing_archives_are_asked_for_one_by_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        prepare("coco14", tmp_path)
    sentences = str(error.value).splitlines()
    assert len(sentences) == 3
    for sentence, archive in zip(sentences, ARCHIVES["coco14"], strict=True):
        assert archive.name in sentence
        assert archive.url in sentence
        assert f"into {tmp_path} and run again" in sentence


def test_damaged_archives_and_unknown_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for archive in ARCHIVES["coco14"]:
        (tmp_path / archive.name).write_bytes(b"half a download")
    with pytest.raises(ValueError, match=r"train2014\.zip cannot be unpacked .* delete it and run again"):
        prepare("coco14", tmp_path)
    assert not (tmp_path / "train2014").exists()
    first = ARCHIVES["coco14"][0]
    monkeypatch.setitem(ARCHIVES, "coco14", (Archive(first.url, first.name, "0" * 32, first.proof),))
    with pytest.raises(ValueError, match=r"train2014\.zip is damaged or incomplete"):
        prepare("coco14", tmp_path)
    with pytest.raises(ValueError, match="choose one of voc12, coco14"):
        prepare("imagenet", tmp_path)  # type: ignore[arg-type]
