"""Results in the formats that others take."""

from dataclasses import dataclass, field

FORMATS: dict[str, str] = {
    "png": "indexed PNG masks",
    "coco": "one COCO JSON, as polygons or run-length codes",
    "onnx": "the networks, for onnxruntime",
    "voc-submission": "the archive that the PASCAL VOC server takes",
    "yolo": "outlines for Ultralytics' YOLO",
    "pascal-voc": "boxes and outlines as Pascal VOC XML",
    "labelme": "outlines for labelme",
}


@dataclass(frozen=True)
class Exported:
    """What an export of masks has written.

    Args:
        out: The file or folder.
        images: Number of photos.
        objects: Number of objects, or of COCO's annotations, in formats that have such.
        pixels: Pixels of background and of each class, and `unsure` ones (255), in formats that have such.
        lost_unsure: Number of unsure pixels that the format cannot say.
    """

    out: str
    images: int
    objects: int = 0
    pixels: dict[str, int] = field(default_factory=dict)
    lost_unsure: int = 0
