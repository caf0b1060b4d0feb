"""Every section refuses values that would fail later, and names field and remedy."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

from cti.config import (
    AffinityConfig,
    Config,
    CrfConfig,
    DataConfig,
    EvaluateConfig,
    MasksConfig,
    MethodConfig,
    ModelConfig,
    OverlapConfig,
    PamrConfig,
    PredictConfig,
    RuntimeConfig,
    SeedsConfig,
    SegmentConfig,
    SegmentTrainConfig,
    TrainConfig,
)

WRONG: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (DataConfig, {"val_fraction": 1.0}),
    (DataConfig, {"max_broken": -0.1}),
    (DataConfig, {"max_pixels": 0}),
    (ModelConfig, {"image_size": 0}),
    (ModelConfig, {"infusion_index": -1}),
    (ModelConfig, {"drop_path": 1.0}),
    (MethodConfig, {"background_weight": -1.0}),
    (MethodConfig, {"bank_size": 0}),
    (MethodConfig, {"attention_blocks": 0}),
    (TrainConfig, {"epochs": -1}),
    (TrainConfig, {"batch_size": 0}),
    (TrainConfig, {"lr": 0.0}),
    (TrainConfig, {"weight_decay": -0.1}),
    (SeedsConfig, {"scales": ()}),
    (SeedsConfig, {"scales": (1.0, 0.0)}),
    (SeedsConfig, {"long_side": -1}),
    (SeedsConfig, {"blocks": -1}),
    (EvaluateConfig, {"threshold": 1.5}),
    (SegmentConfig, {"network": "smp:Unet"}),
    (SegmentConfig, {"network": "smp:Unet:resnet18", "weights": "run"}),
    (SegmentConfig, {"scale_range": (2.0, 0.5)}),
    (SegmentConfig, {"crop_size": 0}),
    (SegmentTrainConfig, {"clip": -1.0}),
    (PredictConfig, {"variants": ()}),
    (PredictConfig, {"window": 100, "stride": 101}),
    (RuntimeConfig, {"workers": -2}),
    (RuntimeConfig, {"preview": -1}),
    (PamrConfig, {"dilations": ()}),
    (PamrConfig, {"downscale": 0}),
    (OverlapConfig, {"power": -1.0}),
    (CrfConfig, {"label_confidence": 1.0}),
    (CrfConfig, {"bilateral_sxy": 0.0}),
    (AffinityConfig, {"stride": 6}),
    (AffinityConfig, {"foreground": 0.2, "background": 0.3}),
    (AffinityConfig, {"beta": 0.0}),
    (MasksConfig, {"alpha": 0.0}),
    (MasksConfig, {"threshold": float("nan")}),
]


@pytest.mark.parametrize(("section", "wrong"), WRONG, ids=lambda value: str(getattr(value, "__name__", value)))
def test_wrong_values_are_refused(section: Callable[..., Any], wrong: dict[str, Any]) -> None:
    name, value = next(reversed(wrong.items()))
    with pytest.raises(ValueError, match=rf"\b{name} is .*;") as caught:
        section(**wrong)
    assert str(value).strip("()") in str(caught.value)


def test_every_section_is_tried() -> None:
    def sections(made: Any) -> set[str]:
        inner = [getattr(made, field.name) for field in fields(made)]
        nested = [value for value in inner if is_dataclass(value)]
        return {type(value).__name__ for value in nested}.union(*map(sections, nested))

    assert {getattr(section, "__name__", "") for section, _ in WRONG} == sections(Config())


def test_maps_that_resolve_overlap_must_be_kept() -> None:
    with pytest.raises(ValueError, match=r"masks\.resolve_overlap\.kind is 'patch', but seeds\.kinds are \[refined\]"):
        Config(seeds=SeedsConfig(kinds=("refined",)), masks=MasksConfig(steps=("resolve_overlap",)))


def test_a_refusal_names_the_setting_as_it_is_written() -> None:
    with pytest.raises(ValueError, match=r"^train\.lr is 0; give a positive number\.$"):
        TrainConfig(lr=0)
    with pytest.raises(ValueError, match=r"^segment\.train\.lr is 0; give a positive number\.$"):
        SegmentTrainConfig(lr=0)
    with pytest.raises(ValueError, match=r"^masks\.crf\.label_confidence is 1\.0; give a number between 0 and 1\.$"):
        CrfConfig(label_confidence=1.0)
