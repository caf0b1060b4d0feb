"""The step against the plain reference, its switches and its gate."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from cti.config import MethodConfig
from cti.method.attention import max_norm
from cti.method.reference import plain_step
from cti.method.step import CTIStep
from tiny import CLASSES, tiny_batch, tiny_model

PAPER = MethodConfig(bank_size=2)


def filled_step(method: MethodConfig, **options: object) -> CTIStep:
    """A step in float64 whose bank is full of noise."""
    step = CTIStep(tiny_model(**options), method).double()
    step.bank.tokens.copy_(torch.randn(step.bank.tokens.shape, generator=torch.Generator().manual_seed(5)))
    step.bank.seen.fill_(method.bank_size)
    return step


@pytest.mark.parametrize("background", ["token", "cam", "none"])
@pytest.mark.parametrize("gate", ["all", "per_class"])
@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("final_norm", ["off", "on"])
def test_agrees_with_the_plain_reference(background: str, gate: str, detach: bool, final_norm: str) -> None:
    method = replace(PAPER, gate=gate, detach_patch_maps_in_background=detach)
    agrees_with_the_plain_reference(method, background, final_norm)


@pytest.mark.parametrize("intra_detach", [False, True])
@pytest.mark.parametrize("cross_source", ["bank", "own"])
@pytest.mark.parametrize("gate", ["all", "per_class"])
def test_other_sources_of_tokens_agree_with_the_plain_reference(
    intra_detach: bool, cross_source: str, gate: str
) -> None:
    method = replace(PAPER, gate=gate, intra_detach=intra_detach, cross_source=cross_source)
    agrees_with_the_plain_reference(method, "token", "off")


def agrees_with_the_plain_reference(method: MethodConfig, background: str, final_norm: str) -> None:
    step = filled_step(method, background=background, final_norm=final_norm)
    if method.gate == "per_class":
        step.bank.seen[1] = -10  # stays unfilled
    batch = {name: value.double() for name, value in tiny_batch().items()}
    fast = step(batch, epoch=0)
    fast["loss"].backward()
    fast_gradients = {name: p.grad.clone() for name, p in step.model.named_parameters() if p.grad is not None}
    step.model.zero_grad()
    plain = plain_step(step.model, method, batch, step.bank.means(), step.bank.full)
    plain["loss"].backward()
    for name, value in plain.items():
        key = "loss" if name == "loss" else f"loss/{name}"
        assert fast[key].item() == pytest.approx(value.item(), rel=1e-9), name
    assert ("loss/background" in fast) == (background != "none")
    for name, parameter in step.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(fast_gradients[name], parameter.grad, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("patch_features", ["last", "two"])  # of three blocks the early one is the middle one
@pytest.mark.parametrize("infusion_index", [0, 1])
def test_any_infusion_index_agrees_with_the_plain_reference(infusion_index: int, patch_features: str) -> None:
    step = filled_step(PAPER, infusion_index=infusion_index, patch_features=patch_features)
    batch = {name: value.double() for name, value in tiny_batch().items()}
    plain = plain_step(step.model, PAPER, batch, step.bank.means(), step.bank.full)
    # The reference was given the means before the batch; appending comes first in the step.
    fast = step(batch, epoch=0)
    assert fast["loss/intra"].item() == pytest.approx(plain["intra"].item(), rel=1e-9)
    assert fast["loss/background"].item() == pytest.approx(plain["background"].item(), rel=1e-9)
    assert fast["loss/cross"].item() != pytest.approx(plain["cross"].item(), rel=1e-9)


def test_recomputing_activations_changes_no_gradient() -> None:
    gradients = []
    for recompute in (False, True):
        step = filled_step(PAPER)
        step.model.recompute = recompute
        step({name: value.double() for name, value in tiny_batch().items()}, epoch=0)["loss"].backward()
        gradients.append([p.grad for p in step.model.parameters() if p.grad is not None])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-12, atol=1e-15)


def test_losses_can_be_switched_off() -> None:
    method = MethodConfig(background_weight=0, intra_weight=0, cross_weight=0)
    losses = filled_step(method)({name: value.double() for name, value in tiny_batch().items()}, epoch=0)
    assert set(losses) == {"loss", "loss/classification"}


def test_extra_losses_wait_for_their_epoch_but_the_bank_fills() -> None:
    step = CTIStep(tiny_model(), replace(PAPER, start_epoch=2))
    assert set(step(tiny_batch(), epoch=1)) == {"loss", "loss/classification"}
    assert step.bank.seen.sum() == tiny_batch()["labels"].sum()
    assert {"loss/background", "loss/intra"} <= set(step(tiny_batch(), epoch=2))


def test_gate_all_waits_for_every_class() -> None:
    step = CTIStep(tiny_model(), PAPER)
    step.bank.seen.copy_(torch.tensor([2, 2, 0]))
    batch = tiny_batch()
    batch["labels"][:, 2] = 0
    batch["labels"][:, 0] = 1
    assert "loss/cross" not in step(batch, epoch=0)
    step.bank.seen[2] = 2
    assert "loss/cross" in step(batch, epoch=0)


def test_gate_per_class_leaves_unready_classes_out() -> None:
    """With no class ready the loss is absent; an unready class keeps its own token, so infusing changes nothing."""
    step = CTIStep(tiny_model(), replace(PAPER, gate="per_class", bank_size=50))
    assert "loss/cross" not in step(tiny_batch(), epoch=0)


@pytest.mark.parametrize("gate", ["all", "per_class"])
def test_photos_without_tags_take_part_once_every_class_is_full(gate: str) -> None:
    """They are infused with their own tokens, which changes nothing, and every foreground channel counts."""
    step = filled_step(replace(PAPER, gate=gate))
    batch = {name: value.double() for name, value in tiny_batch().items()}
    batch["labels"] = torch.zeros_like(batch["labels"])
    before = {name: value.clone() for name, value in step.bank.state_dict().items()}
    fast = step(batch, epoch=0)
    with torch.no_grad():
        out = step.model(batch["images"])
        fused = out.fused_maps(step.model.infused_blocks)
        expected = (max_norm(out.patch_maps[:, 1:]) - max_norm(fused[:, 1:])).abs().mean().item()
    assert fast["loss/cross"].item() == pytest.approx(expected, rel=1e-9)
    plain = plain_step(step.model, step.config, batch, step.bank.means(), step.bank.full)
    for name, value in plain.items():
        assert fast["loss" if name == "loss" else f"loss/{name}"].item() == pytest.approx(value.item(), rel=1e-9), name
    assert all(torch.equal(value, before[name]) for name, value in step.bank.state_dict().items())
    step.bank.seen[1] = 0
    assert "loss/cross" not in step(batch, epoch=0)


@pytest.mark.parametrize(("name", "factor"), [("background", 3.0), ("intra", 5.0), ("cross", 7.0)])
def test_each_loss_has_its_weight(name: str, factor: float) -> None:
    batch = {name: value.double() for name, value in tiny_batch().items()}
    weights = {"background_weight": 0.5, "intra_weight": 0.25, "cross_weight": 0.125}
    once = filled_step(replace(PAPER, **weights))(batch, epoch=0)
    more = filled_step(replace(PAPER, **weights | {f"{name}_weight": factor}))(batch, epoch=0)
    expected = (factor - weights[f"{name}_weight"]) * once[f"loss/{name}"]
    assert (more["loss"] - once["loss"]).item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("attention_blocks", [1, 2, 3, 99])
def test_the_last_blocks_say_where_the_background_is(attention_blocks: int) -> None:
    step = filled_step(replace(PAPER, attention_blocks=attention_blocks))
    batch = {name: value.double() for name, value in tiny_batch().items()}
    fast = step(batch, epoch=0)
    plain = plain_step(step.model, step.config, batch, step.bank.means(), step.bank.full)
    assert fast["loss/background"].item() == pytest.approx(plain["background"].item(), rel=1e-9)


def test_a_detached_view_gives_tokens_and_gets_no_gradient() -> None:
    """The losses stay; the intra loss no longer reaches view 2's image."""
    losses, reached = [], []
    for intra_detach in (False, True):
        method = replace(PAPER, intra_detach=intra_detach, background_weight=0, cross_weight=0)
        batch = {name: value.double() for name, value in tiny_batch().items()}
        batch["images_pos"].requires_grad_(True)
        out = filled_step(method)(batch, epoch=0)
        (out["loss"] - _classification_alone(batch)).backward()
        losses.append(out["loss/intra"].item())
        gradient = batch["images_pos"].grad
        assert gradient is not None
        reached.append(gradient.abs().max().item())
    assert losses[0] == losses[1]
    assert reached[0] > 1e-9
    assert reached[1] < 1e-15


def _classification_alone(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return filled_step(replace(PAPER, background_weight=0, intra_weight=0, cross_weight=0))(batch, epoch=0)["loss"]


def test_own_tokens_infused_change_no_map() -> None:
    step = filled_step(replace(PAPER, cross_source="own"))
    batch = {name: value.double() for name, value in tiny_batch().items()}
    found = step(batch, epoch=0)["loss/cross"].item()
    with torch.no_grad():
        out = step.model(batch["images"])
        fused = out.fused_maps(step.model.infused_blocks)
    expected = (max_norm(out.patch_maps[:, 1:]) - max_norm(fused[:, 1:])).abs().mean().item()
    assert found == pytest.approx(expected, rel=1e-9)
    assert found != pytest.approx(filled_step(PAPER)(batch, epoch=0)["loss/cross"].item(), rel=1e-3)


def test_own_tokens_are_appended_before_the_means_are_taken() -> None:
    step = CTIStep(tiny_model(), replace(PAPER, bank_size=1))
    batch = tiny_batch(batch=3)
    step(batch, epoch=0)
    first = step.bank.tokens.clone()
    assert bool(step.bank.full.all())
    with torch.no_grad():
        own = step.model(batch["images"]).class_tokens[0][:, 1:]
    expected = torch.nn.functional.layer_norm(own[2, 2], own.shape[-1:], eps=1e-5)
    torch.testing.assert_close(first[2, 0], expected, rtol=1e-4, atol=1e-5)


def test_positive_weights_lift_the_loss_of_missed_tags() -> None:
    batch = tiny_batch()
    plain = CTIStep(tiny_model(), PAPER)(batch, epoch=0)["loss/classification"]
    lifted = CTIStep(tiny_model(), PAPER, torch.full((len(CLASSES),), 3.0))(batch, epoch=0)["loss/classification"]
    assert lifted > plain


def test_the_state_is_the_networks_and_the_banks() -> None:
    """Weights of positive tags come from the photos at hand, not from a checkpoint; what is logged does not teach."""
    step = CTIStep(tiny_model(), replace(PAPER, bank_size=1), torch.ones(len(CLASSES)))
    assert {name.split(".")[0] for name in step.state_dict()} == {"model", "bank"}
    losses = step(tiny_batch(), epoch=0)
    assert [name for name, value in losses.items() if value.requires_grad] == ["loss"]
    assert len(losses) == 5


@pytest.mark.parametrize("background", ["token", "cam", "none"])
@pytest.mark.parametrize("patch_features", ["last", "two"])
@pytest.mark.parametrize("start_epoch", [0, 1])
@pytest.mark.parametrize("class_tokens", ["each", "as_one"])
def test_every_weight_learns_in_every_step(
    background: str, patch_features: str, start_epoch: int, class_tokens: str
) -> None:
    """Devices wait for each other's gradients, so there must be one, if only of zeros."""
    options = {"background": background, "patch_features": patch_features, "class_tokens": class_tokens}
    step = CTIStep(tiny_model(**options), replace(PAPER, start_epoch=start_epoch))
    step(tiny_batch(), epoch=0)["loss"].backward()
    assert not [name for name, value in step.named_parameters() if value.requires_grad and value.grad is None]


@pytest.mark.parametrize("gate", ["all", "per_class"])
def test_the_mean_of_two_processes_losses_is_that_of_the_whole_batch(
    monkeypatch: pytest.MonkeyPatch, gate: Literal["all", "per_class"]
) -> None:
    """Each sees half of the batch, and the tokens and labels of all; in the second step one class is not ready yet."""
    model, config = tiny_model().double(), MethodConfig(bank_size=3, gate=gate)
    batches = [{name: value.double() for name, value in tiny_batch(seed=seed).items()} for seed in (0, 1)]
    said: list[Tensor] = []

    def record(tensor: Tensor) -> Tensor:
        said.append(tensor.detach())
        return tensor

    for module in ("step", "bank"):
        monkeypatch.setattr(f"cti.method.{module}.of_all", record)
    whole = CTIStep(model, config).double()
    expected = [whole(batch, epoch=99) for batch in batches]
    assert bool(whole.bank.full.any())
    assert not bool(whole.bank.full.all())
    halves = []
    monkeypatch.setattr("cti.method.step.together", lambda: 2)
    for half in (slice(0, 2), slice(2, 4)):
        answers = iter(said)
        for module in ("step", "bank"):
            monkeypatch.setattr(f"cti.method.{module}.of_all", lambda _, answers=answers: next(answers))
        step = CTIStep(model, config).double()
        halves.append([step({name: value[half] for name, value in batch.items()}, epoch=99) for batch in batches])
    for number, losses in enumerate(expected):
        for name, value in losses.items():
            torch.testing.assert_close((halves[0][number][name] + halves[1][number][name]) / 2, value)
    assert ("loss/cross" in expected[1]) is (gate == "per_class")
