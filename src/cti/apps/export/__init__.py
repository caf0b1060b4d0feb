"""Results in the formats that others take."""

FORMATS: dict[str, str] = {
    "png": "indexed PNG masks",
    "coco": "one COCO JSON, as polygons or run-length codes",
    "onnx": "the networks, for onnxruntime",
    "voc-submission": "the archive that the PASCAL VOC server takes",
    "yolo": "outlines for Ultralytics' YOLO",
    "pascal-voc": "boxes and outlines as Pascal VOC XML",
    "labelme": "outlines for labelme",
}
