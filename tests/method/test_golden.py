"""The model, the losses and their gradients against the authors' network (numbers in tests/golden, float64)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cti.config import MethodConfig
from cti.method import CTI
from cti.method.attention import max_norm
from cti.method.losses import background_loss
from cti.method.official import to_our_names
from cti.method.reference import plain_step
from cti.method.step import CTIStep
from tiny import noise, official_state

COCO_METHOD = MethodConfig(
    background_weight=0.1, intra_weight=0.1, cross_weight=0.1, detach_patch_maps_in_background=True
)


class Oracle:
    def __init__(self, folder: Path) -> None:
        self.arrays = dict(np.load(folder / "cti_golden.npz"))
        self.facts = json.loads((folder / "cti_golden.json").read_text())
        self.model = CTI.from_official(official_state(self.facts["shapes"])).train()

    def batch(self) -> dict[str, torch.Tensor]:
        labels = torch.zeros(2, 20, dtype=torch.float64)
        labels[0, [2, 14]] = 1
        labels[1, 7] = 1
        shape = (2, 3, 224, 224)
        return {"images": noise(0, shape), "images_pos": noise(1, shape), "labels": labels}

    def step(self, method: MethodConfig) -> CTIStep:
        """The step with the oracle's bank means: a bank that is full and takes no more."""
        step = CTIStep(self.model, method).double()
        step.bank.tokens.copy_(noise(2, (20, 384))[:, None].expand_as(step.bank.tokens))
        step.bank.seen.fill_(method.bank_size)
        step.bank.append = lambda *_: None  # type: ignore[method-assign]
        return step


@pytest.fixture(scope="module")
def oracle(golden: Path) -> Oracle:
    return Oracle(golden)


def close(actual: torch.Tensor, expected: np.ndarray) -> None:
    stored = 1e-6 if expected.dtype == np.float32 else 1e-9
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=stored, atol=stored * scale)


@pytest.mark.parametrize(("variant", "method"), [("voc", MethodConfig()), ("coco", COCO_METHOD)])
def test_losses_and_gradients(oracle: Oracle, variant: str, method: MethodConfig) -> None:
    oracle.model.zero_grad(set_to_none=True)
    losses = oracle.step(method)(oracle.batch(), epoch=0)
    losses["loss"].backward()
    expected = oracle.facts[f"losses_{variant}"]
    for name in ("classification", "background", "intra", "cross"):
        assert losses[f"loss/{name}"].item() == pytest.approx(expected[name], rel=1e-9), name
    assert losses["loss"].item() == pytest.approx(expected["total"], rel=1e-9)

    ours = dict.fromkeys(oracle.facts["shapes"], torch.zeros(()))
    renamed = {
        next(iter(to_our_names({name: value}))): name
        for name, value in ours.items()
        if name not in ("pos_embed", "norm.weight", "norm.bias")
    }
    norms = {
        renamed[name]: parameter.grad.norm().item()
        for name, parameter in oracle.model.named_parameters()
        if parameter.grad is not None
    }
    assert norms == pytest.approx(oracle.facts[f"grad_norms_{variant}"], rel=1e-9)


def test_the_plain_reference_too(oracle: Oracle) -> None:
    """What students read first computes what the authors' network does."""
    with torch.no_grad():
        full = torch.ones(20, dtype=torch.bool)
        losses = plain_step(oracle.model, MethodConfig(), oracle.batch(), noise(2, (20, 384)), full)
    expected = oracle.facts["losses_voc"]
    for name in ("classification", "background", "intra", "cross"):
        assert losses[name].item() == pytest.approx(expected[name], rel=1e-9), name
    assert losses["loss"].item() == pytest.approx(expected["total"], rel=1e-9)


def test_maps_of_the_training_passes(oracle: Oracle) -> None:
    batch, arrays, model = oracle.batch(), oracle.arrays, oracle.model
    with torch.no_grad():
        plain, pos = model(batch["images"]), model(batch["images_pos"])
        last6, infused = range(6, 12), model.infused_blocks
        close(plain.class_logits, arrays["class_logits"])
        close(plain.patch_logits, arrays["patch_logits"])
        close(pos.class_logits, arrays["class_logits_pos"])
        close(pos.patch_logits, arrays["patch_logits_pos"])
        close(plain.patch_maps, arrays["patch_maps"])
        close(plain.class_to_patch(last6), arrays["class_to_patch_last6"])
        close(plain.class_to_patch(infused), arrays["class_to_patch_after_infusion"])
        close(plain.fused_maps(last6), arrays["fused_maps"])
        close(plain.refine(plain.fused_maps(last6), infused), arrays["refined_maps_train"])
        close(plain.class_tokens[3], arrays["class_tokens_block3"])
        close(pos.class_tokens[3], arrays["class_tokens_pos_block3"])
        step = oracle.step(MethodConfig())
        foreground, background = step._background_maps(plain, batch["labels"])
        close(max_norm(foreground), arrays["fg_map"])
        close(max_norm(background), arrays["bg_map"])
        expected = oracle.facts["losses_voc"]["background"]
        assert background_loss(foreground, background).item() == pytest.approx(expected, rel=1e-9)

        intra = model(batch["images"], infuse=pos.class_tokens[3])
        close(intra.patch_maps, arrays["intra_patch_maps"])
        means = noise(2, (20, 384))
        tokens = torch.where(batch["labels"][..., None] > 0, means, plain.class_tokens[3][:, 1:])
        cross = model(batch["images"], infuse=tokens)
        close(cross.fused_maps(infused), arrays["cross_fused_maps_after_infusion"])


def test_bank_entry(oracle: Oracle) -> None:
    batch = oracle.batch()
    step = CTIStep(oracle.model, MethodConfig()).double()
    tokens = torch.from_numpy(oracle.arrays["class_tokens_block3"]).double()[:, 1:]
    step.bank.append(tokens, batch["labels"])
    np.testing.assert_allclose(step.bank.tokens[2, 0], oracle.arrays["bank_entry_img0_class2"], rtol=1e-5, atol=1e-6)
    assert step.bank.seen.tolist() == [int(index in (2, 7, 14)) for index in range(20)]


def test_inference(oracle: Oracle) -> None:
    model = oracle.model.eval()
    image = noise(3, (1, 3, 96, 160))
    with torch.no_grad():
        out, flipped = model(image), model(image.flip(-1))
        every = model.all_blocks
        close(out.refine(out.fused_maps(every), every), oracle.arrays["infer_refined_maps"])
        close(flipped.refine(flipped.fused_maps(every), every), oracle.arrays["infer_refined_maps_flipped_input"])
    model.train()
