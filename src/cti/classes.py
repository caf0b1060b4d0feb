"""Class lists, the fixed palette, and the value of a pixel that nobody labels.

Everywhere in the API a *class index* is a 0-based index into the foreground classes; a *mask value* is
that index plus one, because 0 is the background and 255 (`IGNORE_INDEX`) is "unlabelled or unsure".
"""

import numpy as np
from numpy.typing import NDArray

IGNORE_INDEX = 255
BACKGROUND = "background"

VOC_CLASSES: tuple[str, ...] = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

COCO_CLASSES: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip


def check_classes(classes: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Return `classes` as a tuple, or say what is wrong with it.

    Raises:
        ValueError: if the list is empty, names a class twice, names the background, or holds more than 254
            classes (a mask value is one byte, and 0 and 255 are taken).
    """
    names = tuple(classes)
    if not names:
        raise ValueError("The class list is empty; name at least one foreground class.")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"The class list names {', '.join(twice)} more than once; name each class once.")
    if BACKGROUND in names:
        raise ValueError("The class list names 'background'; list foreground classes only, 0 is added for you.")
    if len(names) > IGNORE_INDEX - 1:
        raise ValueError(f"{len(names)} classes do not fit in an 8-bit mask; the most is {IGNORE_INDEX - 1}.")
    return names


def voc_palette() -> NDArray[np.uint8]:
    """The VOC colour map, (256, 3) uint8: bit j of a value's channels comes from bits 3j, 3j+1, 3j+2 of its index.

    This is the fixed palette of every indexed PNG this package writes (VOC development kit, `VOCcolormap`).
    """
    index = np.arange(256, dtype=np.uint32)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette
