"""Photos, tags and masks: readers, checks, and the datasets of the training step."""

from cti.data.images import load_image, load_mask, save_mask
from cti.data.photos import MaskSource, Photo, PhotoSet
from cti.data.read import read_photos

__all__ = ["MaskSource", "Photo", "PhotoSet", "load_image", "load_mask", "read_photos", "save_mask"]
