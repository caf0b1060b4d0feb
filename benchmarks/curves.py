"""What a step and an extraction cost as their sizes grow."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.contest import Measured, compare
from benchmarks.setting import Setting

CONTENDERS = ("reference", "ours")
Curve = list[dict[str, Any]]


def measure_curves(setting: Setting, quick: bool, say: Callable[[str], None]) -> dict[str, Curve]:
    """Points of all curves: `x`, and per contender seconds and peak memory."""
    patch = setting.patch_size
    sides = (patch * 4, patch * 6) if quick else (224, 320, 448)
    step = {
        "batch": [(size, replace(setting, batch=size)) for size in ((1,) if quick else (2, 4, 8))],
        "image_size": [(side, replace(setting, batch=2, image_size=side)) for side in sides],
        "classes": [(count, replace(setting, batch=4, num_classes=count)) for count in ((4, 8) if quick else (20, 80))],
    }
    photos = [(side, replace(setting, photo=(side, side), photos=2)) for side in sides]
    measured: dict[Setting, dict[str, Measured]] = {}  # curves share points

    def points(name: str, work: str, sizes: list[tuple[int, Setting]]) -> Curve:
        curve = []
        for x, size in sizes:
            if size not in measured:
                say(f"{name} {x}")
                measured[size] = compare(work, CONTENDERS, size, repeats=1)
            count = size.batch if work == "step" else size.photos
            curve.append({"x": x, "photos": count, **{who: asdict(found) for who, found in measured[size].items()}})
        return curve

    return {
        **{name: points(name, "step", sizes) for name, sizes in step.items()},
        "photo_size": points("photo_size", "seeds", photos),
    }


def draw_curves(curves: dict[str, Curve], folder: Path) -> list[str]:
    """Write `step_cost.png` and `seeds_cost.png`; returns their names."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    labels = {"batch": "photos in a batch", "image_size": "side of a crop, px", "classes": "classes"}
    figure, axes = plt.subplots(2, 3, figsize=(9, 5), sharex="col", layout="constrained")
    for column, (name, label) in enumerate(labels.items()):
        _draw(axes[0, column], curves[name], lambda point, who: point[who]["seconds"][-1] / point["photos"])
        _draw(axes[1, column], curves[name], lambda point, who: point[who]["peak_gb"])
        batch = "" if name == "batch" else f" (batch {curves[name][0]['photos']})"
        axes[1, column].set_xlabel(label + batch)
    axes[0, 0].set_ylabel("seconds a photo")
    axes[1, 0].set_ylabel("peak memory, GB")
    axes[0, 0].legend(frameon=False)
    figure.suptitle("Training step", fontsize=11)
    figure.savefig(folder / "step_cost.png", dpi=90)

    figure, axis = plt.subplots(figsize=(4.5, 3), layout="constrained")
    _draw(axis, curves["photo_size"], lambda point, who: point[who]["seconds"][-1] / point["photos"])
    axis.set(xlabel="side of a photo, px", ylabel="seconds a photo", title="Seeds, mirror image included")
    axis.legend(frameon=False)
    figure.savefig(folder / "seeds_cost.png", dpi=90)
    plt.close("all")
    return ["step_cost.png", "seeds_cost.png"]


def _draw(axis: Any, points: Curve, value: Callable[[dict[str, Any], str], float]) -> None:
    for who, style in zip(CONTENDERS, ("s--", "o-"), strict=True):
        axis.plot([point["x"] for point in points], [value(point, who) for point in points], style, label=who)
    axis.set_xticks([point["x"] for point in points])
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
