"""Networks as ONNX graphs, for any batch and size, compared with the original before they are handed out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cti.files import atomic_path
from cti.method import CTI
from cti.method.attention import max_norm
from cti.predict.analyser import Analyser
from cti.predict.cti import CTIAnalyser
from cti.predict.predictor import Predictor
from cti.predict.segmenter import SegmenterAnalyser
from cti.seeds.maps import maps_of_kind
from cti.segment.networks import Segmenter

TOLERANCE = 1e-4
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
        self.blocks = model.all_blocks[-blocks:] if blocks else model.all_blocks
        self.background = int(model.config.background != "none")

    def forward(self, images: Tensor, class_indices: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and CAMs.

        Args:
            images: (B, 3, H, W) RGB in [0, 1]; H and W multiples of the patch.
            class_indices: (n,) int64, 0-based foreground classes.

        Returns:
            `scores` (B, C), probabilities of all classes by the images as they are; `cams` (B, n [+ 1], H, W) in
            [0, 1], the background's last if the network has one.
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
        cams = max_norm(F.interpolate(maps, size=(H, W), mode="bilinear", align_corners=False))
        scores = ((out.class_logits[:B] + out.patch_logits[:B]) / 2).sigmoid()
        return scores, cams


class SegmenterGraph(nn.Module):
    """What the ONNX graph of a segmenter computes: one scale, one window.

    Args:
        network: The network.
        flip: Average with the mirrored images' probabilities.
    """

    def __init__(self, network: Segmenter, flip: bool = True) -> None:
        super().__init__()
        self.network, self.flip = network, flip

    def forward(self, images: Tensor) -> Tensor:
        """Class probabilities (B, 1 + C, H, W), background first, of RGB images (B, 3, H, W) in [0, 1]."""
        B = images.shape[0]
        normal = _normalised(images, self.network)
        if not self.flip:
            return self.network(normal).softmax(dim=1)
        both = self.network(torch.cat([normal, normal.flip(-1)])).softmax(dim=1)
        return (both[:B] + both[B:].flip(-1)) / 2


def export_onnx(predictor: Predictor, out: Path | str) -> dict[str, Any]:
    """Write a network as ONNX and compare it, at another batch and size, with the original under onnxruntime.

    The graph's inputs and outputs are those of `CTIGraph` and `SegmenterGraph`; its metadata hold `classes` and, as
    far as they apply, `tag_thresholds` (class -> logit), `patch_size`, `image_size`.

    Args:
        predictor: The network and its settings.
        out: The .onnx file.

    Returns:
        `out`, `inputs`, `outputs`, and `largest_difference` to the original.

    Raises:
        ModuleNotFoundError: without the extra `onnx`.
        ValueError: if the graph does not compute what the network does.
    """
    _onnx()
    analyser = predictor.analyser
    graph, multiple, facts = _graph(analyser)
    device = next(graph.parameters()).device
    graph.eval().cpu()
    try:
        with atomic_path(out) as temporary:
            _write(graph, multiple, facts, temporary)
            difference = _largest_difference(graph, multiple, temporary)
            if not difference <= TOLERANCE:
                raise ValueError(
                    f"The ONNX graph differs from the network by {difference:.1e}, more than {TOLERANCE:.0e}; it was "
                    "not written. Other versions of torch, onnxscript or onnxruntime may do better."
                )
    finally:
        graph.to(device)
    inputs, outputs = _names(graph)
    return {"out": str(out), "inputs": inputs, "outputs": outputs, "largest_difference": difference}


def _graph(analyser: Analyser) -> tuple[nn.Module, int, dict[str, Any]]:
    """The graph's module, what its image sides are multiples of, and facts for its metadata."""
    facts: dict[str, Any] = {"classes": analyser.classes}
    if isinstance(analyser, CTIAnalyser):
        model, seeds = analyser.network, analyser.seeds
        facts |= {"tag_thresholds": analyser.tag_thresholds, "patch_size": model.patch_size}
        facts |= {"image_size": model.config.image_size}
        return CTIGraph(model, seeds.kinds[0], seeds.flip, seeds.blocks), model.patch_size, facts
    assert isinstance(analyser, SegmenterAnalyser)
    multiple = analyser.network.multiple
    return SegmenterGraph(analyser.network, analyser.config.flip), multiple, facts | {"patch_size": multiple}


def _names(graph: nn.Module) -> tuple[list[str], list[str]]:
    if isinstance(graph, CTIGraph):
        return ["images", "class_indices"], ["scores", "cams"]
    return ["images"], ["probabilities"]


def _write(graph: nn.Module, multiple: int, facts: dict[str, Any], path: Path) -> None:
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
        output_names=outputs,
        opset_version=_OPSET,
        verbose=False,
    )
    assert program is not None
    for name, value in facts.items():
        program.model.metadata_props[name] = json.dumps(value)
    program.save(path, external_data=False)


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
    expected = (expected,) if isinstance(expected, Tensor) else expected
    given = {name: value.numpy() for name, value in zip(_names(graph)[0], arguments, strict=True)}
    pairs = zip(session.run(None, given), expected, strict=True)
    return max(float(np.abs(found - true.numpy()).max()) for found, true in pairs)


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
