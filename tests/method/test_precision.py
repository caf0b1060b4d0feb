"""Whatever the precision, maps and losses are float32: in bfloat16 the 1e-5 of `max_norm` is nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cti.config import MethodConfig, RuntimeConfig, SeedsConfig, TrainConfig
from cti.method.attention import QueriesKeys, class_to_patch, full_precision, max_norm, patch_affinity_times
from cti.method.losses import background_loss, classification_loss, cross_image_loss, intra_image_loss
from cti.method.network import CTI, CTIOutput
from cti.method.step import CTIStep
from cti.method.summed import summed_forward
from cti.seeds.maps import batch_maps, scaled_maps
from cti.train.fit import fit
from cti.train.optimiser import parameter_groups
from tiny import tiny_batch, tiny_model

KINDS = ("patch", "attention", "fused", "refined")
Forward = Callable[[CTI, Tensor], CTIOutput]


def training_pass(model: CTI, images: Tensor) -> CTIOutput:
    return model(images)


def infused_pass(model: CTI, images: Tensor) -> CTIOutput:
    return model(images, infuse=model(images.flip(-1)).class_tokens[model.infusion_index])


def summed_pass(model: CTI, images: Tensor) -> CTIOutput:
    return summed_forward(model, images, model.all_blocks)


def every_kind(model: CTI, out: CTIOutput) -> dict[str, Tensor]:
    blocks = model.all_blocks
    fused = out.fused_maps(blocks)
    return {
        "patch": out.patch_maps,
        "attention": out.class_to_patch(blocks),
        "fused": fused,
        "refined": out.refine(fused, blocks),
        "class logits": out.class_logits,
        "patch logits": out.patch_logits,
    }


def in_bfloat16(enabled: bool = True) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def assert_same_but_for_rounding(half: Tensor, exact: Tensor, name: str) -> None:
    """Tokens were rounded to three digits on their way; maps made of them are off by no more than that."""
    assert half.dtype == exact.dtype == torch.float32, name
    assert not torch.equal(half, exact), f"{name}: nothing was computed in bfloat16, so nothing was tested"
    torch.testing.assert_close(half, exact, rtol=0.05, atol=0.02 * exact.abs().max().item(), msg=name)


@pytest.mark.parametrize("forward", [training_pass, infused_pass, summed_pass])
@pytest.mark.parametrize("background", ["token", "cam", "none"])
@pytest.mark.parametrize("stem", ["patch", "conv"])
def test_every_kind_of_map_is_float32(forward: Forward, background: str, stem: str) -> None:
    model = tiny_model(background=background, stem=stem).eval()
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = every_kind(model, forward(model, images))
        with in_bfloat16():
            half = every_kind(model, forward(model, images))
    for name, maps in exact.items():
        assert_same_but_for_rounding(half[name], maps, name)


def test_the_maps_are_made_of_the_tokens_without_rounding() -> None:
    """Given the same tokens and attention, autocast changes no digit of what is made of them."""
    model = tiny_model().eval()
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        end = model._run(model.first_blocks(images), model.infused_blocks)
        outputs = model(images), summed_forward(model, images, model.all_blocks)
        exact = [model.heads(end.tokens, end.grid), *(every_kind(model, out).values() for out in outputs)]
        with in_bfloat16():
            half = [model.heads(end.tokens, end.grid), *(every_kind(model, out).values() for out in outputs)]
    for half_maps, exact_maps in zip(half, exact, strict=True):
        for maps, expected in zip(half_maps, exact_maps, strict=True):
            assert torch.equal(maps, expected)
    rounded = end.tokens.bfloat16()
    for maps, expected in zip(model.heads(rounded, end.grid), model.heads(rounded.float(), end.grid), strict=True):
        assert torch.equal(maps, expected)


def test_attention_of_half_precision_queries_is_float32() -> None:
    queries, keys = torch.randn(2, 2, 2, 9, 4).bfloat16()
    maps = torch.rand(2, 3, 7).bfloat16()
    with in_bfloat16():
        attention = class_to_patch(QueriesKeys(queries, keys), 2)
        refined = patch_affinity_times(QueriesKeys(queries, keys), 2, maps)
    assert attention.dtype == refined.dtype == torch.float32
    assert torch.equal(attention, class_to_patch(QueriesKeys(queries.float(), keys.float()), 2))
    assert torch.equal(refined, patch_affinity_times(QueriesKeys(queries.float(), keys.float()), 2, maps.float()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_maps_are_float32(dtype: torch.dtype) -> None:
    maps, other = torch.rand(2, 2, 3, 4, 4).to(dtype)
    logits, labels = torch.randn(2, 3).to(dtype), torch.tensor([[1, 0, 0], [0, 1, 1]]).to(dtype)
    for loss, arguments in (
        (classification_loss, (logits, labels)),
        (background_loss, (maps[:, :1], other[:, :1])),
        (intra_image_loss, (maps, other)),
        (cross_image_loss, (maps, other)),
        (cross_image_loss, (maps, other, torch.tensor([[1, 0, 1], [0, 1, 1]]).to(dtype))),
    ):
        with in_bfloat16():
            half = loss(*arguments)
        assert half.dtype == loss(*arguments).dtype == torch.float32, loss.__name__
        torch.testing.assert_close(half, loss(*(full_precision(argument) for argument in arguments)))
    with in_bfloat16():
        assert max_norm(maps).dtype == torch.float32


def test_losses_of_the_step_are_float32() -> None:
    exact, half = (CTIStep(tiny_model(), MethodConfig(bank_size=1)) for _ in range(2))
    with in_bfloat16():
        rounded = half(tiny_batch(), epoch=0)
    assert len(rounded) == 5
    for name, loss in exact(tiny_batch(), epoch=0).items():
        assert rounded[name].dtype == torch.float32
        assert rounded[name].item() == pytest.approx(loss.item(), rel=0.03), name
    assert half.bank.tokens.dtype == torch.float32


def test_seeds_are_float32_on_every_processor(either_processor: bool) -> None:
    """`precision: auto` takes bfloat16 where it is quick; `32` is float32 to the last digit everywhere."""
    model = tiny_model().eval()
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    tags = [[0, 2], [1]]
    exact = batch_maps(model, images, tags, KINDS)
    asked = scaled_maps(model, images, tags, SeedsConfig(kinds=KINDS, precision="32"))
    automatic = scaled_maps(model, images, tags, SeedsConfig(kinds=KINDS, precision="auto"))
    for kind in KINDS:
        for row in range(2):
            assert torch.equal(asked[kind][row], exact[kind][row]), kind
            if either_processor:
                assert_same_but_for_rounding(automatic[kind][row], exact[kind][row], kind)
            else:
                assert torch.equal(automatic[kind][row], exact[kind][row]), kind


def test_training_goes_the_same_way_on_every_processor(
    either_processor: bool, tmp_path: Path, noise_photos: torch.utils.data.Dataset[dict[str, Tensor]]
) -> None:
    weights = []
    for precision in ("32", "auto"):
        config = TrainConfig(epochs=1, batch_size=4, lr=1e-3, warmup_epochs=0, precision=precision)
        runtime = RuntimeConfig(workers=0, accelerator="cpu", devices=1)
        step = CTIStep(tiny_model(), MethodConfig(bank_size=1))
        fit(step, noise_photos, config, tmp_path / precision, parameter_groups(step, config), runtime)
        weights.append(step.model.patch_head.weight.detach())
    assert weights[0].dtype == weights[1].dtype == torch.float32
    assert torch.equal(*weights) is not either_processor
    torch.testing.assert_close(*weights, rtol=0, atol=4e-3)  # three steps of at most 1e-3 each


@pytest.fixture
def noise_photos() -> torch.utils.data.Dataset[dict[str, Tensor]]:
    class Noise(torch.utils.data.Dataset[dict[str, Tensor]]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
            return {name: value[0] for name, value in tiny_batch(batch=1, seed=key[1]).items()}

    return Noise()
