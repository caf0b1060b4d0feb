import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from cti.config import PredictConfig, SegmentConfig
from cti.data import stretched
from cti.data.images import load_mask
from cti.data.photos import Photo
from cti.data.windows import windows
from cti.segment import predict
from cti.segment.checkpoint import load_segmenter, save_segmenter
from cti.segment.inference import Inference, inference
from cti.segment.networks import Segmenter, build_segmenter
from cti.segment.predict import (
    Seen,
    argmax_at,
    decided_mask,
    look_at,
    predict_folder,
    predict_mask,
    predict_probabilities,
    window_probabilities,
)
from tiny import tiny_trained

PLAIN = Inference(precision="32", flip=False, window=0)


class PixelNetwork(Segmenter):
    """Looks at one pixel at a time, and notes the sizes it was asked for."""

    def __init__(self, num_outputs: int = 4) -> None:
        super().__init__((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), multiple=1)
        torch.manual_seed(0)
        self.classify = nn.Conv2d(3, num_outputs, 1)
        self.sizes: list[tuple[int, ...]] = []

    def padded(self, images: Tensor) -> tuple[Tensor, None]:
        self.sizes.append(tuple(images.shape))
        return self.classify(images), None


def photo(height: int = 45, width: int = 61, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 80), st.integers(0, 80))
@example(length=9, window=1, stride=0)
@example(length=9, window=2, stride=0)
def test_windows_cover_without_gaps(length: int, window: int, stride: int) -> None:
    found = windows(length, window, stride)
    assert found[0].start == 0
    assert found[-1].stop == length
    if window == 0 or window >= length:
        assert found == [slice(0, length)]
        return
    assert all(part.stop - part.start == window for part in found)
    steps = np.diff([part.start for part in found])
    assert (steps >= 1).all()
    assert (steps <= (stride or max(1, window * 2 // 3))).all()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("window", "stride"), [(16, 0), (16, 16), (20, 7), (50, 0)])
def test_windows_give_what_the_whole_gives_if_pixels_are_on_their_own(window: int, stride: int, flip: bool) -> None:
    network = PixelNetwork()
    whole = predict_probabilities(network, photo(), replace(PLAIN, flip=flip))
    network.sizes.clear()
    parts = predict_probabilities(network, photo(), Inference(precision="32", flip=flip, window=window, stride=stride))
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(parts.sum(dim=0), torch.ones(45, 61))
    assert max(max(size[-2:]) for size in network.sizes) <= window  # memory is bounded by the window
    assert max(size[0] for size in network.sizes) == 1 + flip


def test_overlapping_windows_are_averaged() -> None:
    class WindowMean(PixelNetwork):
        def padded(self, images: Tensor) -> tuple[Tensor, None]:
            return self.classify(images.mean(dim=(2, 3), keepdim=True).expand_as(images)), None

    network = WindowMean()
    image = torch.randn(3, 1, 6)
    config = Inference(precision="32", flip=False, window=4, stride=2)
    found, tags = window_probabilities(network, lambda rows, columns: image[None, :, rows, columns], (1, 6), config)
    averaged = found[0]
    assert tags.tolist() == [[0, 0, 0]]
    left, right = (network(part[None]).softmax(dim=1)[0] for part in (image[..., :4], image[..., 2:]))
    torch.testing.assert_close(averaged[..., :2], left[..., :2].detach())
    torch.testing.assert_close(averaged[..., 2:4], ((left[..., 2:] + right[..., :2]) / 2).detach())
    torch.testing.assert_close(averaged[..., 4:], right[..., 2:].detach())


@pytest.mark.parametrize("kind", ["vit-linear", "vit-upsample"])
@pytest.mark.parametrize("window", [0, 24])
def test_a_mirrored_photo_has_the_mirrored_prediction(tiny: SegmentConfig, kind: str, window: int) -> None:
    torch.manual_seed(0)
    config = Inference(precision="32", window=window, stride=8, scales=(1.0, 0.5))
    network = build_segmenter(replace(tiny, network=kind), 3)
    image = photo(40, 48)
    here = predict_probabilities(network, image, config)
    there = predict_probabilities(network, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), config)
    torch.testing.assert_close(there.flip(-1), here, atol=1e-5, rtol=1e-4)
    one_sided = replace(config, flip=False)
    assert not torch.allclose(predict_probabilities(network, image, one_sided), here, atol=1e-4)


def test_scales_are_averaged_at_the_working_size(tiny: SegmentConfig) -> None:
    network = build_segmenter(tiny, 3)
    config = Inference(precision="32", long_side=40)
    both = predict_probabilities(network, photo(), replace(config, scales=(0.5, 1.5)))
    single = [predict_probabilities(network, photo(), replace(config, scales=(scale,))) for scale in (0.5, 1.5)]
    assert both.shape == (4, 30, 40)
    torch.testing.assert_close(both, (single[0] + single[1]) / 2)
    torch.testing.assert_close(both.sum(dim=0), torch.ones(30, 40))


@settings(deadline=None)
@given(st.integers(1, 5), st.tuples(st.integers(1, 20), st.integers(1, 20)), st.integers(0, 999))
def test_argmax_class_by_class_is_the_argmax_of_the_stretched(num: int, size: tuple[int, int], seed: int) -> None:
    probabilities = torch.rand(num, 7, 9, generator=torch.Generator().manual_seed(seed))
    stretched = nn.functional.interpolate(probabilities[None], size=size, mode="bilinear")[0]
    assert (argmax_at(probabilities, size) == stretched.argmax(dim=0).numpy()).all()


def test_a_mask_has_the_photos_size_whatever_the_working_size(tiny: SegmentConfig) -> None:
    network = build_segmenter(tiny, 3)
    network.train()
    for long_side in (0, 20, 100):
        mask = predict_mask(network, photo(), Inference(precision="32", long_side=long_side))
        assert mask.shape == (45, 61)
        assert mask.dtype == np.uint8
        assert mask.max() <= 3
    assert network.training  # the mode is given back


def test_the_crf_smooths(tiny: SegmentConfig) -> None:
    pytest.importorskip("pydensecrf")
    network = PixelNetwork()
    with torch.no_grad():  # class 2 where red is high, else background
        network.classify.weight.zero_()
        network.classify.weight[2, 0] = 1.0
        network.classify.bias.copy_(torch.tensor([0.0, -9, 0, -9]))
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:, 20:, 0] = 255
    pixels[np.random.default_rng(0).random((40, 40)) < 0.05] = (127, 0, 0)
    pixels[5, 5] = (140, 0, 0)  # a stray pixel
    plain = predict_mask(network, Image.fromarray(pixels), PLAIN)
    smooth = predict_mask(network, Image.fromarray(pixels), replace(PLAIN, crf="psa"))
    assert plain[5, 5] == 2
    assert smooth[5, 5] == 0
    assert set(np.unique(smooth)) == {0, 2}


def test_a_folder_is_predicted_and_not_again(
    drawn: tuple[list[Photo], Path], tiny: SegmentConfig, tmp_path: Path
) -> None:
    photos, _ = drawn
    network = build_segmenter(tiny, 3)
    out = tmp_path / "out"
    assert predict_folder(network, photos[:4], out, Inference()) == {"predicted": 4, "kept": 0}
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / ".p4.x.tmp.png").write_bytes(b"half a file")
    assert predict_folder(network, photos, out, Inference()) == {"predicted": 2, "kept": 4}
    assert sorted(path.name for path in out.iterdir()) == [f"p{i}.png" for i in range(6)]
    assert all((out / name).stat().st_mtime_ns == time for name, time in before.items())
    with Image.open(out / "p5.png") as image:
        assert image.mode == "P"


KILLED = """
import os, signal, sys
from pathlib import Path
from PIL import Image
from cti.config import SegmentConfig
from cti.data.photos import Photo
from cti.data.windows import windows
from cti.segment.networks import build_segmenter
from cti.segment import predict
from cti.segment.checkpoint import load_segmenter, save_segmenter
from cti.segment.inference import Inference
from cti.segment.predict import predict_folder

folder, out = map(Path, sys.argv[1:])
config = SegmentConfig(backbone="vit", weights="none", embed_dim=16, depth=1, num_heads=1, patch_size=8)
photos = [Photo(path.stem, path, ()) for path in sorted(folder.iterdir())]
save, saved = Image.Image.save, []
def save_half_of_the_third(self, path, **options):
    saved.append(path)
    save(self, path, **options)
    if len(saved) == 3:
        Path(path).write_bytes(Path(path).read_bytes()[:40])
        os.kill(os.getpid(), signal.SIGKILL)
Image.Image.save = save_half_of_the_third
predict_folder(build_segmenter(config, 3), photos, out, Inference())
"""


@pytest.mark.slow
def test_a_killed_run_goes_on(drawn: tuple[list[Photo], Path], tiny: SegmentConfig, tmp_path: Path) -> None:
    photos, out = drawn[0], tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "photos"), str(out)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -9
    assert sorted(path.name for path in out.glob("p*.png")) == ["p0.png", "p1.png"]
    assert len(list(out.iterdir())) == 3  # the half-written file has no name that anyone reads
    assert predict_folder(build_segmenter(tiny, 3), photos, out, Inference()) == {"predicted": 4, "kept": 2}
    assert sorted(path.name for path in out.iterdir()) == [f"p{i}.png" for i in range(6)]
    for path in out.iterdir():
        load_mask(path, 3)


def test_large_photos_keep_averages_of_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a photo of too many pixels: what the whole gives, averaged over squares; the mask has the photo's size."""
    network, image = PixelNetwork(), photo(48, 60)
    whole = predict_probabilities(network, image, PLAIN)
    monkeypatch.setattr(predict, "MOST_CELLS", 48 * 60 // 8)
    network.sizes.clear()
    config = Inference(precision="32", flip=True, window=20)
    reduced = predict_probabilities(network, image, config)
    assert reduced.shape == (4, 16, 20)
    torch.testing.assert_close(reduced, nn.functional.avg_pool2d(whole, 3))
    assert max(max(size[-2:]) for size in network.sizes) <= 20
    odd = predict_probabilities(network, photo(47, 61), replace(config, scales=(1.0, 0.7)))
    assert odd.shape == (4, 16, 21)
    torch.testing.assert_close(odd.sum(dim=0), torch.ones(16, 21))
    assert predict_mask(network, photo(47, 61), config).shape == (47, 61)


def test_masks_by_bands_are_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = torch.rand(5, 9, 11)
    plain = argmax_at(probabilities, (83, 120))
    monkeypatch.setattr(stretched, "BAND", 1000)
    assert (argmax_at(probabilities, (83, 120)) == plain).all()


def test_classes_that_do_not_exceed_their_limit_are_not_in_a_photo() -> None:
    probabilities = torch.tensor([[[0.1, 0.4]], [[0.75, 0.1]], [[0.3, 0.5]]])
    seen = Seen(probabilities, torch.tensor([0.75, 0.5]))
    image = Image.new("RGB", (2, 1))
    assert decided_mask(image, seen, Inference()).tolist() == [[1, 2]]
    assert decided_mask(image, seen, Inference(limits=(0.75, -1.0))).tolist() == [[2, 2]]
    assert decided_mask(image, seen, Inference(limits=(0.7, 0.5))).tolist() == [[1, 0]]
    assert decided_mask(
        image, replace(seen, scores=torch.tensor([0.1, 0.9])), Inference(limits=(0.7, 0.5))
    ).tolist() == [
        [2, 2]  # the score decides, not the highest probability
    ]
    assert probabilities[1, 0, 0] == 0.75  # not changed


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("window", [0, 40])
def test_what_is_said_of_the_whole_photo_moves_the_scores_and_nothing_else(flip: bool, window: int) -> None:
    class Telling(PixelNetwork):
        def padded(self, images: Tensor) -> tuple[Tensor, Tensor]:
            self.sizes.append(tuple(images.shape))
            self.said.append(torch.randn(len(images), 3, generator=torch.Generator().manual_seed(len(self.said))))
            return self.classify(images), self.said[-1]

    network, silent = Telling(), PixelNetwork()
    network.said = []
    config = replace(PLAIN, flip=flip, window=window, stride=window)
    images = [photo(seed=0), photo(seed=1)]
    told, plain = look_at(network, images, config), look_at(silent, images, config)
    by_window = [said.reshape(-1, 2, 3).mean(dim=0) for said in network.said]
    assert len(by_window) == (4 if window else 1)
    highest = torch.stack(by_window).amax(dim=0)  # (2, 3), of any window
    for number in range(2):
        torch.testing.assert_close(told[number].probabilities, plain[number].probabilities)
        torch.testing.assert_close(plain[number].scores, plain[number].probabilities[1:].amax(dim=(1, 2)))
        expected = (plain[number].scores.logit() + highest[number]).sigmoid()
        torch.testing.assert_close(told[number].scores, expected, rtol=1e-4, atol=1e-5)


def test_thresholds_are_kept_with_the_network(tmp_path: Path) -> None:
    trained = replace(tiny_trained(), tag_thresholds={tiny_trained().classes[0]: 0.7})
    save_segmenter(tmp_path, trained)
    loaded = load_segmenter(tmp_path)
    assert loaded.tag_thresholds == {loaded.classes[0]: 0.7}
    expected = (0.7, *(-1.0 for _ in trained.classes[1:]))
    assert loaded.inference().limits == expected
    assert tiny_trained().inference().limits == ()


def test_a_trained_network_asks_no_hub_for_the_weights_it_began_with(tmp_path: Path) -> None:
    trained = tiny_trained()
    began = replace(trained, config=replace(trained.config, backbone="vit", weights=str(tmp_path / "gone.safetensors")))
    save_segmenter(tmp_path, began)
    loaded = load_segmenter(tmp_path)
    assert loaded.config == began.config
    for name, value in trained.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)


def test_a_variant_says_scales_and_crf_and_the_first_is_the_usual_one() -> None:
    segment = SegmentConfig(long_side=700)
    predict = PredictConfig(
        variants=("multi-scale+crf", "single"), multi_scales=(0.5, 2.0), flip=False, window=90, stride=30, crf="irn",
        precision="bf16",
    )  # fmt: skip
    first = Inference(700, (0.5, 2.0), False, 90, 30, "irn", "bf16")
    assert inference(segment, predict) == inference(segment, predict, "multi-scale+crf") == first
    assert inference(segment, predict, "multi-scale") == replace(first, crf="none")
    assert inference(segment, predict, "single+crf") == replace(first, scales=(1.0,))
    assert inference(segment, predict, "single") == replace(first, scales=(1.0,), crf="none")


def test_bf16_is_used_where_it_is_asked_for_and_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = tiny_trained()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 40, 3), np.uint8))
    for quick in (False, True):
        monkeypatch.setattr("cti.segment.inference.quick_bfloat16", lambda device, quick=quick: quick)
        assert Inference().half("cpu") is quick
        assert Inference(precision="bf16").half("cpu")
        assert not Inference(precision="32").half("cpu")
    exact, rough = (predict_probabilities(trained.network, image, Inference(precision=kind)) for kind in ("32", "bf16"))
    assert exact.dtype == rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(rough, exact, atol=0.03, rtol=0)


@pytest.mark.parametrize(("window", "most"), [(0, None), (40, 35)])
@pytest.mark.parametrize("cells", [None, 600])
def test_a_vit_sees_whole_patches_only(
    window: int, most: int | None, cells: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = PixelNetwork()
    network.patch = 7
    if cells:
        monkeypatch.setattr(predict, "MOST_CELLS", cells)  # squares of 3 x 3 pixels
    config = replace(PLAIN, window=window, scales=(1.0, 0.7))
    found = predict_probabilities(network, photo(45, 60), config)
    assert all(side % 7 == 0 for size in network.sizes for side in size[-2:])
    assert most is None or max(max(size[-2:]) for size in network.sizes) == (21 if cells else most)
    cell = 3 if cells else 1
    assert found.shape == (4, 45 // cell, 60 // cell)
    assert build_segmenter(tiny_trained().config, 2).patch == tiny_trained().config.patch_size
