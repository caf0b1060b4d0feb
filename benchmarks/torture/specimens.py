"""Sound inputs of every kind that is read, small, to be mutated; and how each is read."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from cti.apps.ablate.grid import load_grid
from cti.commands import check
from cti.config import Config, PredictConfig, SeedsConfig
from cti.data.images import load_image, save_mask
from cti.data.outside_masks import outside_masks
from cti.data.review import read_entries
from cti.data.seed_file import Seed, read_seed, write_seed
from cti.files import to_json
from cti.method.checkpoint import save_model
from cti.predict.predictor import Predictor
from cti.settings import dump_config, load_config
from tiny import tiny_cti

SIDE = 24
CLASSES = ("cat", "golden retriever", "sofa")
_TAGS = (("cat",), ("golden retriever",), ("cat", "sofa"), ("sofa",), (), ("cat",))
_MODES = {"a.png": "RGB", "b.jpg": "RGB", "c.tif": "I;16", "d.webp": "RGBA", "e.gif": "P", "f.bmp": "L"}


@dataclass(frozen=True)
class Specimen:
    """One input.

    Args:
        folder: Its folder.
        read: Reads it as a command does; refuses it, if at all, with an error that is one sentence.
    """

    folder: Path
    read: Callable[[Path], object]


def write_specimens(root: Path) -> dict[str, Specimen]:
    """Write all inputs below a folder; their kinds by name."""
    made: dict[str, Specimen] = {}
    for write, read in _KINDS:
        folder = root / write.__name__.removeprefix("_")
        folder.mkdir(parents=True)
        write(folder)
        made[folder.name] = Specimen(folder, read)
    return made


# How they are read.


def _check(folder: Path) -> None:
    check(Config(), str(folder))


def _review(folder: Path) -> None:
    for mask in outside_masks(folder, CLASSES):
        mask.draw((SIDE, SIDE), 255)


def _config(folder: Path) -> None:
    load_config(folder / "config.yaml")


def _grid(folder: Path) -> None:
    load_grid(str(folder / "grid.yaml"))


def _entries(folder: Path) -> None:
    read_entries(folder)


def _seed_file(folder: Path) -> None:
    seed = read_seed(folder / "a.npz")
    if max(seed.size) <= 1000:
        seed.cams()


def _network(folder: Path) -> None:
    Predictor.from_pretrained(folder)(Image.new("RGB", (SIDE, SIDE)))


def _photos(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        load_image(path)


# How they are written.


def _pictures(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name, mode in _MODES.items():
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 16)
        exif = Image.Exif()
        exif[0x0112] = 6
        (deep if mode == "I;16" else image.convert(mode)).save(
            folder / name, **({"exif": exif} if name[0] in "ab" else {})
        )


def _table(folder: Path, separator: str = ",") -> None:
    _pictures(folder / "images")
    rows = ["image" + separator + "tags"]
    rows += [f'{name}{separator}"{";".join(tags)}"' for name, tags in zip(_MODES, _TAGS, strict=True)]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "lists").mkdir()
    (folder / "lists" / "train.txt").write_text("a\nb\nc\n")
    (folder / "lists" / "val.txt").write_text("d\ne\nf\n")
    (folder / "masks").mkdir()
    for index, name in enumerate(_MODES):
        save_mask(folder / "masks" / f"{Path(name).stem}.png", _mask(index))


def _mask(index: int) -> Any:
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for number, tag in enumerate(_TAGS[index]):
        mask[4 + 6 * number : 9 + 6 * number, 5:15] = CLASSES.index(tag) + 1
    mask[0, 0] = 255
    return mask


def _one_hot(folder: Path) -> None:
    _pictures(folder)
    rows = ["filename\tcat\tdog\tsofa"]
    rows += [f"{name}\t{number % 2}\t{number // 2 % 2}\t{int(number > 3)}" for number, name in enumerate(_MODES)]
    (folder / "tags.tsv").write_text("\n".join(rows) + "\n")


def _words(folder: Path) -> None:
    _pictures(folder)
    (folder / "labels.txt").write_text(
        "".join(f"{name} {' '.join(t)}\n" for name, t in zip(_MODES, _TAGS, strict=True))
    )


def _json_tags(folder: Path) -> None:
    _pictures(folder)
    (folder / "labels.json").write_text(json.dumps(dict(zip(_MODES, _TAGS, strict=True))))


def _json_lines(folder: Path) -> None:
    _pictures(folder)
    lines = (json.dumps({"file_name": name, "tags": tags}) for name, tags in zip(_MODES, _TAGS, strict=True))
    (folder / "metadata.jsonl").write_text("".join(f"{line}\n" for line in lines))


def _label_studio(folder: Path) -> None:
    _pictures(folder)
    tasks = [
        {"id": number, "data": {"image": f"/data/upload/1/1a2b3c4d-{name}"},
         "annotations": [{"result": [{"type": "choices", "value": {"choices": list(tags)}}]}]}
        for number, (name, tags) in enumerate(zip(_MODES, _TAGS, strict=True), 1)
    ]  # fmt: skip
    (folder / "export.json").write_text(json.dumps(tasks))


def _cvat(folder: Path) -> None:
    _pictures(folder)
    images = "".join(
        f'<image id="{number}" name="{name}">{"".join(f"""<tag label="{tag}"/>""" for tag in tags)}</image>'
        for number, (name, tags) in enumerate(zip(_MODES, _TAGS, strict=True))
    )
    (folder / "annotations.xml").write_text(f"<annotations>{images}</annotations>")


def _voc_xml(tags: tuple[str, ...]) -> str:
    objects = "".join(f"<object>\n<name>{tag}</name>\n<difficult>0</difficult>\n</object>\n" for tag in tags)
    return f"<annotation>\n<size><width>{SIDE}</width><height>{SIDE}</height></size>\n{objects}</annotation>\n"


def _voc(folder: Path) -> None:
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    for index, tags in enumerate((("cat",), ("dog", "sofa"), ("cat",))):
        Image.new("RGB", (SIDE, SIDE), (index * 50, 9, 9)).save(folder / "JPEGImages" / f"p{index}.jpg")
        (folder / "Annotations" / f"p{index}.xml").write_text(_voc_xml(tags))
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        mask[3:9, 3:9] = 8 if "cat" in tags else 12
        save_mask(folder / "SegmentationClass" / f"p{index}.png", mask)
    (folder / "ImageSets" / "Segmentation" / "train.txt").write_text("p0\np1\n")
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("p2\n")


def _beside_yolo(folder: Path) -> None:
    _pictures(folder / "images")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    _yolo_rows(folder / "labels", boxes=True)


def _yolo_rows(folder: Path, boxes: bool) -> None:
    folder.mkdir()
    shape = "0.5 0.5 0.25 0.25" if boxes else "0.1 0.1 0.9 0.1 0.5 0.8"
    for name, tags in zip(_MODES, _TAGS, strict=True):
        rows = (f"{CLASSES.index(tag)} {shape}\n" for tag in tags)
        (folder / f"{Path(name).stem}.txt").write_text("".join(rows))


def _labelme_file(path: Path, name: str, tags: tuple[str, ...]) -> None:
    points = {"polygon": [[2, 2], [20, 3], [9, 20]], "rectangle": [[1, 1], [9, 9]], "circle": [[5, 5], [9, 9]]}
    kinds = list(points)
    shapes = [
        {"label": tag, "shape_type": kinds[number % 3], "points": points[kinds[number % 3]]}
        for number, tag in enumerate(tags)
    ]
    content = {"version": "5.0", "imagePath": name, "imageHeight": SIDE, "imageWidth": SIDE, "shapes": shapes}
    path.write_text(json.dumps(content))


def _beside_labelme(folder: Path) -> None:
    _pictures(folder)
    for name, tags in zip(_MODES, _TAGS, strict=True):
        _labelme_file((folder / name).with_suffix(".json"), name, tags)


def _coco_content(run_lengths: bool) -> dict[str, Any]:
    images = [{"id": number, "file_name": name, "width": SIDE, "height": SIDE} for number, name in enumerate(_MODES, 1)]
    outline = {"size": [SIDE, SIDE], "counts": [100, 50, SIDE * SIDE - 150]} if run_lengths else [[2, 2, 20, 3, 9, 20]]
    annotations = [
        {"id": 10 * image + number, "image_id": image, "category_id": CLASSES.index(tag) + 1, "bbox": [2, 2, 18, 18],
         "area": 150, "iscrowd": int(run_lengths), "segmentation": outline}
        for image, tags in enumerate(_TAGS, 1)
        for number, tag in enumerate(tags)
    ]  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _coco(folder: Path) -> None:
    for role, run_lengths in (("train", False), ("val", True)):
        _pictures(folder / role)
        content = _coco_content(run_lengths)
        for image in content["images"]:
            (folder / role / image["file_name"]).rename(folder / role / f"{role}-{image['file_name']}")
            image["file_name"] = f"{role}-{image['file_name']}"
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{role}.json").write_text(json.dumps(content))


def _sub_folders(folder: Path) -> None:
    _pictures(folder / "cat")
    _pictures(folder / "good")
    for path in (folder / "good").iterdir():
        path.rename(path.with_name(f"other-{path.name}"))


def _review_labelme(folder: Path) -> None:
    for name, tags in zip(_MODES, _TAGS, strict=True):
        _labelme_file(folder / f"{Path(name).stem}.json", name, tags)


def _review_coco(folder: Path) -> None:
    (folder / "instances_default.json").write_text(json.dumps(_coco_content(run_lengths=False)))


def _review_yolo(folder: Path) -> None:
    (folder / "data.yaml").write_text(yaml.safe_dump({"names": dict(enumerate(CLASSES)), "train": "images"}))
    _yolo_rows(folder / "labels", boxes=False)


def _review_masks(folder: Path) -> None:
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for index, name in enumerate(_MODES):
        save_mask(folder / f"{Path(name).stem}.png", _mask(index))


def _review_entries(folder: Path) -> None:
    entries = [
        {"photo": name, "verdict": "accepted", "tags": tags, "threshold": 0.3}
        for name, tags in zip(_MODES, _TAGS, strict=True)
    ]
    (folder / "photos.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def _configuration(folder: Path) -> None:
    (folder / "config.yaml").write_text(dump_config(Config()))


def _ablation(folder: Path) -> None:
    grid = {
        "title": "Does it matter?", "baseline": "as it is", "settings": {"train.epochs": 1},
        "variants": [{"name": "as it is"}, {"name": "half", "edits": {"train.lr": 0.1}, "against": ["as it is"]}],
    }  # fmt: skip
    (folder / "grid.yaml").write_text(yaml.safe_dump(grid))


def _seeds(folder: Path) -> None:
    maps = np.random.default_rng(0).random((2, 3, 3), dtype=np.float32)
    write_seed(folder / "a.npz", {"refined": Seed((0, 2), (SIDE, SIDE), maps, maps[0])})


def _weights(folder: Path) -> None:
    torch.manual_seed(0)
    save_model(folder, tiny_cti(), {
        "tag_thresholds": {"cat": 0.1, "dog": -0.1, "sofa": 0.0},
        "seeds": to_json(SeedsConfig(long_side=48)), "predict": to_json(PredictConfig()),
    })  # fmt: skip


_KINDS: tuple[tuple[Callable[[Path], None], Callable[[Path], object]], ...] = (
    (_pictures, _photos), (_table, _check), (_one_hot, _check), (_words, _check), (_json_tags, _check),
    (_json_lines, _check), (_label_studio, _check), (_cvat, _check), (_voc, _check), (_beside_yolo, _check),
    (_beside_labelme, _check), (_coco, _check), (_sub_folders, _check), (_review_labelme, _review),
    (_review_coco, _review), (_review_yolo, _review), (_review_masks, _review), (_review_entries, _entries),
    (_configuration, _config), (_ablation, _grid), (_seeds, _seed_file), (_weights, _network),
)  # fmt: skip
