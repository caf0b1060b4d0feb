"""Networks as ONNX graphs, for any batch and size, compared with the original before they are handed out."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cti.files import JsonObject, atomic_path, write_text
from cti.method import CTI
from cti.method.attention import EPS, max_norm
from cti.method.locator import fitted_parts
from cti.predict.analyser import Analyser
from cti.predict.cti import CTIAnalyser
from cti.predict.predictor import Predictor
from cti.predict.segmenter import SegmenterAnalyser
from cti.seeds.maps import SPREAD, maps_of_kind
from cti.segment.networks import Segmenter

TOLERANCE = 1e-4
INPUT = (
    "images (B, 3, H, W) float32, RGB in [0, 1]; not normalised, the graph does that. Photos are resized (resampling): "
    "the longest side to long_side (0 = own size), then each side to the nearest multiple of patch_size"
)
_OPSET = 20


class CTIGraph(nn.Module):
    """What the ONNX graph of a CTI network computes.

    Args:
        model: The network.
        kind: Kind of map, e.g. `refined`.
        flip: Add the mirrored images' maps.
        blocks: The last so many blocks give attention; 0 = all.
    """

    def __init__(self, model: CTI, kind: str = "refined", flip: bool = True, blocks: int = 0) -> None:
        super().__init__()
        self.model, self.kind, self.flip = model, kind, flip
        last = model.all_blocks[-blocks:] if blocks else model.all_blocks
        self.blocks = model.middle_blocks if kind in SPREAD else last
        self.background = int(model.has_background)

    def forward(self, images: Tensor, class_indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, CAMs and maps.

        Args:
            images: (B, 3, H, W) RGB in [0, 1]; H and W multiples of the patch.
            class_indices: (n,) int64, 0-based foreground classes.

        Returns:
            `scores` (B, C), probabilities of all classes by the images as they are; `cams` (B, n [+ 1], H, W) in
            [0, 1], the background's last if the network has one; `maps`, the same before `max_norm`, by which the graph
            is compared (the file has no such output).
        """
        B, _, H, W = images.shape
        normal = _normalised(images, self.model)
        out = self.model(torch.cat([normal, normal.flip(-1)]) if self.flip else normal)
        channels = class_indices + self.background
        if self.background:
            channels = torch.cat([channels, torch.zeros_like(channels[:1])])
        maps = maps_of_kind(out, channels[None].expand(out.patch_maps.shape[0], -1), self.kind, self.blocks)
        if self.flip:
            maps = maps[:B] + maps[B:].flip(-1)
        maps = F.interpolate(maps, size=(H, W), mode="bilinear", align_corners=False)
        scores = out.tag_logits[:B].sigmoid()
        return scores, max_norm(maps), maps


class SegmenterGraph(nn.Module):
    """What the ONNX graph of a segmenter computes: one scale, one window.

    Args:
        network: The network.
        flip: Average with the mirrored images' probabilities.
    """

    def __init__(self, network: Segmenter, flip: bool = True) -> None:
        super().__init__()
        self.network, self.flip = network, flip

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and scores, as `cti.segment.predict.look_at` finds them.

        Args:
            images: (B, 3, H, W) RGB in [0, 1]; H and W multiples of the patch.

        Returns:
            `probabilities` (B, 1 + C, H, W), background first; `scores` (B, C), how sure it is that a class is there.
        """
        B = images.shape[0]
        normal = _normalised(images, self.network)
        logits, said = self.network.see(torch.cat([normal, normal.flip(-1)]) if self.flip else normal)
        probabilities = logits.softmax(dim=1)
        if self.flip:
            probabilities = (probabilities[:B] + probabilities[B:].flip(-1)) / 2
            said = None if said is None else (said[:B] + said[B:]) / 2
        scores = probabilities[:, 1:].amax(dim=(2, 3))
        if said is not None:
            scores = scores.clamp(1e-6, 1 - 1e-6)
            scores = ((scores / (1 - scores)).log() + said).sigmoid()
        return probabilities, scores


@dataclass(frozen=True)
class OnnxExport:
    """A network that was written as ONNX.

    Args:
        out: The .onnx file.
        inputs: Names of the graph's inputs.
        outputs: Names of its outputs.
        largest_difference: To the original; see `difference`.
        snippet: The file that shows how it is run.
    """

    out: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    largest_difference: float
    snippet: str


def export_onnx(predictor: Predictor, out: Path | str) -> OnnxExport:
    """Write a network as ONNX and compare it, at another batch and size, with the original under onnxruntime.

    The graph's inputs and outputs are those of `CTIGraph` and `SegmenterGraph`. Its metadata hold, as JSON, `classes`,
    `input` (what the images are to be like; the graph normalises them itself by `mean` and `std`), `long_side`,
    `resampling` and `patch_size`, by which photos are resized, `tag_thresholds` (class -> what its logit, of CTI, or
    score, of a segmenter, must exceed) and, of CTI, `image_size`. A snippet that does all this is written beside it.

    Args:
        predictor: The network and its settings.
        out: The .onnx file.

    Raises:
        ModuleNotFoundError: without the extra `onnx`.
        ValueError: if the graph does not compute what the network does.
    """
    _onnx()
    analyser = predictor.analyser
    graph, multiple, facts = _graph(analyser)
    device = next(graph.parameters()).device
    graph.eval().cpu()
    model = graph.model if isinstance(graph, CTIGraph) else None
    if model is not None and model.locator is not None and model.normality is not None and model.tag_head is not None:
        model.settled = fitted_parts(model.locator, model.normality, model.tag_head)
    try:
        with atomic_path(out) as temporary:
            program = _exported(graph, multiple, facts)
            program.save(temporary, external_data=False)
            largest = _largest_difference(graph, multiple, temporary)
            if not largest <= TOLERANCE:
                raise ValueError(
                    f"The ONNX graph differs from the network by {largest:.1e}, more than {TOLERANCE:.0e}; it was "
                    "not written. Other versions of torch, onnxscript or onnxruntime may do better."
                )
            inputs, outputs = _names(graph)
            del program.model.graph.outputs[len(outputs) :]
            program.save(temporary, external_data=False)
    finally:
        graph.to(device)
        if model is not None:
            model.settled = None
    snippet = Path(out).with_suffix(".py")
    write_text(snippet, _snippet(graph, Path(out).name, multiple, analyser.classes))
    return OnnxExport(str(out), tuple(inputs), tuple(outputs), largest, str(snippet))


def difference(found: Sequence[NDArray[np.float32]], true: Sequence[NDArray[np.float32]]) -> float:
    """The largest difference between what a graph and the original give.

    Probabilities are compared as they are. CAMs are compared before `max_norm`, each map relative to its largest value,
    because `max_norm` makes of a nearly flat map its rounding; and the graph's `max_norm` with ours of the same maps.

    Args:
        found: Outputs of the graph, in the order of `CTIGraph` or `SegmenterGraph`.
        true: Outputs of the original.
    """
    if len(found) < 3:
        return float(np.max([np.abs(one - other).max() for one, other in zip(found, true, strict=True)]))
    worst = float(np.abs(found[0] - true[0]).max())
    scale = np.abs(true[2]).max(axis=(-2, -1), keepdims=True) + EPS
    relative = float((np.abs(found[2] - true[2]) / scale).max())
    normed = float(np.abs(found[1] - max_norm(torch.from_numpy(found[2])).numpy()).max())
    return float(np.max([worst, relative, normed]))  # NaN stays NaN


def _graph(analyser: Analyser) -> tuple[nn.Module, int, JsonObject]:
    """The graph's module, what its image sides are multiples of, and facts for its metadata."""
    network: Any = analyser.network
    facts: JsonObject = {"classes": analyser.classes, "input": INPUT, "mean": network.mean, "std": network.std}
    facts["tag_thresholds"] = analyser.tag_thresholds
    if isinstance(analyser, CTIAnalyser):
        model, seeds = analyser.network, analyser.seeds
        facts |= {"long_side": seeds.long_side, "resampling": "bicubic", "patch_size": model.patch_size}
        facts |= {"image_size": model.config.image_size}
        return CTIGraph(model, seeds.kinds[0], seeds.flip, seeds.blocks), model.patch_size, facts
    assert isinstance(analyser, SegmenterAnalyser)
    multiple = analyser.network.multiple
    facts |= {"long_side": analyser.config.long_side, "resampling": "bilinear", "patch_size": multiple}
    return SegmenterGraph(analyser.network, analyser.config.flip), multiple, facts


def _names(graph: nn.Module) -> tuple[list[str], list[str]]:
    if isinstance(graph, CTIGraph):
        return ["images", "class_indices"], ["scores", "cams"]
    return ["images"], ["probabilities", "scores"]


def _exported(graph: nn.Module, multiple: int, facts: JsonObject) -> Any:
    """The ONNX program, by which `maps` is an output too."""
    inputs, outputs = _names(graph)
    sides = {2: multiple * torch.export.Dim("rows"), 3: multiple * torch.export.Dim("columns")}
    shapes: list[dict[int, Any]] = [{0: torch.export.Dim("batch"), **sides}]
    if len(inputs) > 1:
        shapes.append({0: torch.export.Dim("classes")})
    program = torch.onnx.export(
        graph,
        _example(graph, multiple, batch=2, rows=3, columns=5),
        dynamo=True,
        dynamic_shapes=tuple(shapes),
        input_names=inputs,
        output_names=[*outputs, "maps"] if isinstance(graph, CTIGraph) else outputs,
        opset_version=_OPSET,
        verbose=False,
    )
    assert program is not None
    for name, value in facts.items():
        program.model.metadata_props[name] = json.dumps(value)
    return program


def _example(graph: nn.Module, multiple: int, batch: int, rows: int, columns: int) -> tuple[Tensor, ...]:
    """Images, and class indices if the graph takes them."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((batch, 3, rows * multiple, columns * multiple), generator=generator)
    if not isinstance(graph, CTIGraph):
        return (images,)
    return images, torch.arange(len(graph.model.classes)).flip(0)[: rows - 1]


@torch.no_grad()
def _largest_difference(graph: nn.Module, multiple: int, path: Path) -> float:
    """Of any output at any place, for a batch and a size that the export has not seen."""
    runtime = _onnx()
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    arguments = _example(graph, multiple, batch=3, rows=4, columns=2)
    expected = graph(*arguments)
    given = {name: value.numpy() for name, value in zip(_names(graph)[0], arguments, strict=True)}
    return difference(session.run(None, given), [output.numpy() for output in expected])


def _snippet(graph: nn.Module, name: str, multiple: int, classes: Sequence[str]) -> str:
    """A program that runs the graph on one photo, resized as the predictor does it."""
    cti = isinstance(graph, CTIGraph)
    run = (
        f"""indices = np.array([0], dtype=np.int64)  # {classes[0]}; the classes whose maps are wanted
scores, cams = session.run(None, {{"images": images, "class_indices": indices}})
print(dict(zip(classes, scores[0].tolist())), cams.shape)  # (1, classes asked for [+ background], height, width)
"""
        if cti
        else """probabilities, scores = session.run(None, {"images": images})
for value, name in enumerate(classes, 1):
    if scores[0, value - 1] <= facts["tag_thresholds"].get(name, -1):
        probabilities[0, value] = 0  # too little to be in the photo; leave this out for classes that are known to be
planes = [Image.fromarray(plane).resize(photo.size, Image.Resampling.BILINEAR) for plane in probabilities[0]]
mask = np.argmax(np.stack(planes), axis=0).astype(np.uint8)  # 0 = background, 1 = the first class
Image.fromarray(mask).save("mask.png")
print({name: float((mask == value).mean()) for value, name in enumerate(["background", *classes])})
"""
    )
    return f"""import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("{name}")
known = session.get_modelmeta().custom_metadata_map
facts = {{name: json.loads(known[name]) for name in ("classes", "tag_thresholds", "long_side")}}
classes = facts["classes"]
photo = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
longest = facts["long_side"] or max(photo.size)  # cti sees photos that are still large window by window, this does not
sides = [side * longest / max(photo.size) for side in photo.size]
width, height = (max(1, round(side / {multiple})) * {multiple} for side in sides)  # the nearest number of whole patches
resized = photo.resize((width, height), Image.Resampling.{"BICUBIC" if cti else "BILINEAR"})
pixels = np.asarray(resized, dtype=np.float32)
images = pixels.transpose(2, 0, 1)[None] / 255  # (1, 3, height, width), RGB in [0, 1]; the graph normalises
{run}"""


def _normalised(images: Tensor, network: Any) -> Tensor:
    mean = torch.tensor(network.mean, dtype=images.dtype).reshape(1, 3, 1, 1)
    std = torch.tensor(network.std, dtype=images.dtype).reshape(1, 3, 1, 1)
    return (images - mean) / std


def _onnx() -> Any:
    """onnxruntime, with what the export needs beside it."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'Exporting ONNX needs {error.name}: pip install "cti[onnx]".') from error
    return onnxruntime
