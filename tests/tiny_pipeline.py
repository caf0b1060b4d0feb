"""A run small enough for tests: a dozen rendered shapes of 32 pixels and networks of two or three blocks."""

from pathlib import Path

from cti.config import Config
from cti.data.readers.shapes import render_shapes
from cti.settings import load_config

_VIT = {"backbone": "vit", "weights": "none", "patch_size": "8", "embed_dim": "32", "num_heads": "2"}
_TRAIN = {"epochs": "1", "batch_size": "4", "lr": "1e-3", "warmup_epochs": "0", "precision": "32"}
SETTINGS = {
    "stages": "[train, seeds, masks, segment, evaluate]",
    **{f"model.{name}": value for name, value in _VIT.items()},
    "model.depth": "3",
    "model.image_size": "32",
    "model.infusion_index": "0",
    "model.drop_path": "0",
    "method.bank_size": "2",
    "method.gate": "per_class",
    **{f"train.{name}": value for name, value in _TRAIN.items()},
    "masks.pamr.iterations": "1",
    "masks.pamr.dilations": "[1, 2]",
    **{f"segment.{name}": value for name, value in _VIT.items()},
    "segment.depth": "2",
    "segment.crop_size": "32",
    **{f"segment.train.{name}": value for name, value in _TRAIN.items()},
    "runtime.workers": "0",
    "runtime.accelerator": "cpu",
    "runtime.devices": "1",
}


def options(root: Path, out: Path, **more: str) -> list[str]:
    """Command-line options of a tiny run; `more` are further ones, with `__` for the dots."""
    settings = SETTINGS | {"data.root": str(root), "out": str(out)}
    settings |= {name.replace("__", "."): value for name, value in more.items()}
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def tiny_config(root: Path, out: Path, recipe: str | None = None, **more: str) -> Config:
    """The configuration of a tiny run, on top of a recipe."""
    return load_config(recipe, options(root, out, **more))


def tiny_shapes(root: Path, count: int = 12) -> Path:
    """Render a tiny data set: photos, tags, masks, lists `train` and `val` (a quarter)."""
    return render_shapes(root, count=count, size=32, val_fraction=0.25)
