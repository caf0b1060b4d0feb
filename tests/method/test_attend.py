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


def test_every_size_and_number_of_threads_is_measured_by_itself(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is written down of one stays when another is added."""
    monkeypatch.setattr(module, "_seconds", lambda shape, images: abs(images - shape[2]) + 1.0)
    questions = [((8, 2, 1, 4), 1), ((8, 2, 8, 4), 1), ((8, 2, 8, 4), 2)]
    answers = [chosen(*question) for question in questions]
    assert answers == [1, 8, 8]
    assert len(json.loads(cache.read_text())) == 3
    chosen.cache_clear()
    monkeypatch.setattr(module, "_seconds", lambda *_: pytest.fail("all is known"))
    assert [chosen(*question) for question in questions] == answers


def test_without_a_cache_folder_it_is_the_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert module._cache_folder() == tmp_path / ".cache" / "cti"


def test_what_cannot_be_written_down_holds_all_the_same(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.write_text("a file where the folder would be")
    monkeypatch.setattr(module, "_seconds", lambda shape, images: float(images != 1))
    assert chosen((4, 2, 7, 4), 1) == 1


def test_the_quickest_of_three_rounds_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 5.0, 10.0, 12.0, 20.0, 23.0])  # rounds of 5, 2 and 3 seconds
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(times))
    with torch.no_grad():  # it measures both directions all the same
        assert module._seconds((1, 1, 2, 2), FUSED) == 2
    assert next(times, None) is None


@pytest.mark.parametrize("content", ["{", "[1, 2]", '{"other": "nonsense"}'])
def test_a_damaged_cache_is_measured_anew(cache: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    monkeypatch.setattr(module, "_seconds", lambda shape, images: float(images))
    assert chosen((4, 2, 7, 4), 1) == FUSED


def test_float32_takes_the_fused_kernel_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "chosen", lambda *_: pytest.fail("float32 is not measured"))
    q, k, v = inputs(torch.float32)
    assert torch.equal(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))
    bias = torch.linspace(-2, 1, 7)[None, None, None]
    assert torch.equal(attend(q, k, v, bias), F.scaled_dot_product_attention(q, k, v, bias))
    with torch.no_grad():  # nor is bfloat16 where no gradient is needed
        q, k, v = inputs(torch.bfloat16)
        assert torch.equal(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_bfloat16_is_as_near_to_float32_by_either_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = [each.detach().float() for each in inputs(torch.bfloat16)]
    for images in CHOICES[:2]:
        asked: list[tuple[object, ...]] = []
        monkeypatch.setattr(module, "chosen", lambda *given, images=images, asked=asked: asked.append(given) or images)
        for bias in (None, torch.linspace(-2, 1, 7)[None, None, None]):
            right = F.scaled_dot_product_attention(*exact, bias)
            mixed = attend(*inputs(torch.bfloat16), None if bias is None else bias.bfloat16())
            assert mixed.dtype == torch.bfloat16
            torch.testing.assert_close(mixed.float(), right, atol=0.03, rtol=0.03)
        assert asked == [((5, 2, 7, 4), torch.get_num_threads())] * 2


def test_a_real_measurement_is_made(cache: Path) -> None:
    assert chosen((2, 1, 5, 4), torch.get_num_threads()) in CHOICES
