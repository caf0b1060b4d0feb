"""Results in the formats that others take."""

from dataclasses import dataclass, field

FORMATS: dict[str, str] = {
    "png": "indexed PNG masks",
    "coco": "one COCO JSON, as polygons or run-length codes",
    "onnx": "the networks, for onnxruntime",
    "voc-submission": "the archive that the PASCAL VOC server takes",
    "voc": "photos and masks in VOC's layout, for torchvision and CVAT",
    "imagefolder": "photos and masks for Hugging Face's datasets",
    "fiftyone": "photos and masks for FiftyOne",
    "overlays": "photos with their masks painted over them",
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
        masks: Class -> number of masks that show it.
        pixels: Pixels of background and of each class, and `unsure` ones (255), in the masks.
        lost_unsure: Number of unsure pixels that the format cannot say.
        specks: Number of parts too small for an outline that are left out, in formats of outlines (`specks.py`).
    """

    out: str
    images: int
    objects: int = 0
    masks: dict[str, int] = field(default_factory=dict)
    pixels: dict[str, int] = field(default_factory=dict)
    lost_unsure: int = 0
    specks: int = 0

    def __str__(self) -> str:
        """The counts, in words."""
        classes = ", ".join(f"{name} in {count}" for name, count in self.masks.items())
        objects = f", {self.objects} objects" if self.objects else ""
        parts = "part" if self.specks == 1 else "parts"
        specks = f", {self.specks} {parts} of a few pixels left out" if self.specks else ""
        return f"{self.images} masks ({classes}){objects}{specks}"
