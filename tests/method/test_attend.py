"""The open attention kernel, and which kernel is chosen."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cti.method import attend as module
from cti.method.attend import CHOICES, FUSED, OpenAttention, attend, chosen


def inputs(dtype: torch.dtype = torch.float64, batch: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 2, 7, 4, generator=generator, dtype=dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("images", [1, 2, 8])
def test_it_is_attention_with_its_gradients(images: int, biased: bool) -> None:
    bias = torch.linspace(-2, 1, 7, dtype=torch.float64)[None, None, None] if biased else None
    weights = torch.randn(5, 2, 7, 4, dtype=torch.float64)
    results = []
    for kernel in (F.scaled_dot_product_attention, lambda *args: OpenAttention.apply(*args, images)):
        leaves = inputs()
        mixed = kernel(*leaves, bias)
        (mixed * weights).sum().backward()
        results.append([mixed.detach(), *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    chosen.cache_clear()
    return tmp_path / "cti" / "attention.json"


def test_the_quickest_is_chosen_once_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def seconds(shape: tuple[int, ...], images: int) -> float:
        asked.append(images)
        return abs(images - 8) + 1.0

    monkeypatch.setattr(module, "_seconds", seconds)
    assert chosen((16, 2, 7, 4), 1) == 8
    assert asked == [0, 1, 8]  # 64 images are more than there are
    chosen.cache_clear()  # another process
    assert chosen((16, 2, 7, 4), 1) == 8
    assert len(asked) == 3
    assert list(json.loads(cache.read_text()).values()) == [8]


def test_a_damaged_cache_is_measured_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.mkdir()
    cache.write_text("{")
    monkeypatch.setattr(module, "_seconds", lambda shape, images: float(images))
    assert chosen((4, 2, 7, 4), 1) == FUSED


def test_float32_takes_the_fused_kernel_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "chosen", lambda *_: pytest.fail("float32 is not measured"))
    q, k, v = inputs(torch.float32)
    assert torch.equal(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_bfloat16_is_as_near_to_float32_by_either_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = [each.detach().float() for each in inputs(torch.bfloat16)]
    right = F.scaled_dot_product_attention(*exact)
    for images in CHOICES[:2]:
        monkeypatch.setattr(module, "chosen", lambda *_, images=images: images)
        mixed = attend(*inputs(torch.bfloat16))
        assert mixed.dtype == torch.bfloat16
        torch.testing.assert_close(mixed.float(), right, atol=0.03, rtol=0.03)


def test_a_real_measurement_is_made(cache: Path) -> None:
    assert chosen((2, 1, 5, 4), torch.get_num_threads()) in CHOICES
