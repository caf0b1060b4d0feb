"""How a trained segmenter predicts: the settings of one of `predict.variants`."""

from dataclasses import dataclass
from typing import Literal

from cti.config import PredictConfig, SegmentConfig
from cti.device import quick_bfloat16


@dataclass(frozen=True)
class Inference:
    """The settings of a prediction.

    Args:
        long_side: Photos are resized to this longest side first; 0 = own size.
        scales: Sizes relative to that; probabilities are averaged.
        flip: Average with the prediction of the mirrored photo.
        window: Larger photos are predicted window by window of this side in pixels; 0 = always whole.
        stride: Distance between windows in pixels; 0 = two thirds of the window.
        crf: Preset of the dense CRF on the probabilities, or `none`.
        precision: Of the network: `auto` = bf16 where the processor is quick at it, else float32.
        limits: (C,) what a class's score must exceed, else it is not in the photo; empty = none.
    """

    long_side: int = 0
    scales: tuple[float, ...] = (1.0,)
    flip: bool = True
    window: int = 512
    stride: int = 0
    crf: Literal["none", "psa", "irn"] = "none"
    precision: Literal["auto", "32", "bf16"] = "auto"
    limits: tuple[float, ...] = ()

    def half(self, device_type: str) -> bool:
        """Whether the network computes in bf16 on such a device."""
        return self.precision == "bf16" or (self.precision == "auto" and quick_bfloat16(device_type))


def inference(segment: SegmentConfig, predict: PredictConfig, variant: str = "") -> Inference:
    """The settings of a variant, `single`, `multi-scale`, either with `+crf`; the first variant if none is named."""
    variant = variant or predict.variants[0]
    return Inference(
        long_side=segment.long_side,
        scales=predict.multi_scales if variant.startswith("multi-scale") else (1.0,),
        flip=predict.flip,
        window=predict.window,
        stride=predict.stride,
        crf=predict.crf if variant.endswith("+crf") else "none",
        precision=predict.precision,
    )
