"""Seeds: the oracle's final maps, flip, files, restarting, sizes."""

import io
import json
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cti.config import RuntimeConfig, SeedsConfig
from cti.data import Photo, batches
from cti.data.batches import MAX_TOKENS, fit_to_patches
from cti.data.seed_file import Seed, read_seed, to_cams, write_seed
from cti.method import CTI
from cti.method.reference import class_to_patch, patch_affinity, plain_pass, refine
from cti.method.summed import summed_forward
from cti.seeds import maps as maps_of
from cti.seeds.extract import extract_seeds
from cti.seeds.maps import batch_maps, scaled_maps
from tiny import noise, official_state, tiny_model


@pytest.fixture
def model() -> CTI:
    return tiny_model().eval()


def seed_cams(model: CTI, image: Tensor, classes: list[int]) -> Tensor:
    """CAMs of one image of any size by the method: all blocks, refined by the patch affinity, mirror included."""
    size = image.shape[-2:]
    resized = F.interpolate(image[None], fit_to_patches(size, model.patch_size), mode="bilinear", antialias=True)
    maps = batch_maps(model.eval(), resized, [classes], flip=True)
    return to_cams(maps["refined"][0][: len(classes)], size)


def photos(folder: Path, count: int = 5) -> list[Photo]:
    made = []
    for index in range(count):
        size = (48, 33) if index % 2 else (33, 48)
        pixels = np.random.default_rng(index).integers(0, 255, (*size, 3), dtype=np.uint8)
        path = folder / f"{index}.png"
        Image.fromarray(pixels).save(path)
        made.append(Photo(str(index), path, ((0, 2), (1,), ())[index % 3]))
    return made


def test_seed_cams_are_the_authors(golden: Path) -> None:
    state = official_state(json.loads((golden / "cti_golden.json").read_text())["shapes"])
    arrays = np.load(golden / "cti_golden.npz")
    cams = seed_cams(CTI.from_official(state), noise(3, (1, 3, 96, 160))[0], [2, 14])
    assert cams.shape == (2, 96, 160)
    for cam, name in zip(cams, ("infer_cam_class2", "infer_cam_class14"), strict=True):
        np.testing.assert_allclose(cam.numpy(), arrays[name], rtol=1e-6, atol=1e-6)


def test_mirrored_images_give_mirrored_cams(model: CTI) -> None:
    image = torch.randn(3, 40, 56)
    cams = seed_cams(model, image, [0, 2])
    assert cams.shape == (2, 40, 56)
    assert 0 <= cams.min() <= cams.max() <= 1
    torch.testing.assert_close(seed_cams(model, image.flip(-1), [0, 2]), cams.flip(-1), rtol=1e-3, atol=1e-4)


def test_no_class_gives_no_cam(model: CTI) -> None:
    assert seed_cams(model, torch.randn(3, 32, 32), []).shape == (0, 32, 32)


@pytest.mark.parametrize("background", ["token", "cam", "none"])
def test_a_batch_of_different_tags_equals_one_by_one(background: str) -> None:
    model = tiny_model(background=background).eval()
    images = torch.randn(3, 3, 32, 48)
    tags = [[0, 2], [1], []]
    kinds = ("refined", "fused", "patch", "attention")
    together = batch_maps(model, images, tags, kinds)
    for row in range(3):
        alone = batch_maps(model, images[row : row + 1], tags[row : row + 1], kinds)
        for kind in kinds:
            expected = len(tags[row]) + int(background != "none")
            assert together[kind][row].shape == (expected, 4, 6)
            torch.testing.assert_close(together[kind][row], alone[kind][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
def test_the_last_blocks_give_attention(blocks: int) -> None:
    """`blocks: 1` is the last block alone, 0 is all of them; compared with matrices held and added up."""
    model, images = tiny_model().double().eval(), torch.randn(2, 3, 32, 48, dtype=torch.float64)
    used = range(3 - blocks, 3) if blocks else range(3)
    with torch.no_grad():
        plain = plain_pass(model, images)
        attention = class_to_patch(model, plain, used)
        fused = plain.patch_maps * attention
        expected = {
            "patch": plain.patch_maps,
            "attention": attention,
            "fused": fused,
            "refined": refine(patch_affinity(model, plain, used), fused),
            "spread": refine(patch_affinity(model, plain, range(1, 2)), plain.patch_maps),  # the middle block of three
        }
    maps = batch_maps(model, images, [[0, 2], [1]], tuple(expected), flip=False, blocks=blocks)
    for kind, channels in expected.items():
        torch.testing.assert_close(maps[kind][0], channels[0, [1, 3, 0]], rtol=1e-9, atol=1e-12)  # background last
        torch.testing.assert_close(maps[kind][1], channels[1, [2, 0]], rtol=1e-9, atol=1e-12)


def test_scales_are_added_up_on_the_grid_of_the_photo() -> None:
    model, images = tiny_model().eval(), torch.randn(2, 3, 32, 48)
    tags, config = [[0, 2], [1]], SeedsConfig(scales=(1.0, 2.0), kinds=("refined",), precision="32")
    large = torch.nn.functional.interpolate(images, (64, 96), mode="bilinear", antialias=True)
    both = scaled_maps(model, images, tags, config)["refined"]
    for row, (once, twice) in enumerate(
        zip(batch_maps(model, images, tags)["refined"], batch_maps(model, large, tags)["refined"], strict=True)
    ):
        # Four times as many patches share a token's attention.
        expected = once + 4 * torch.nn.functional.interpolate(twice[None], (4, 6), mode="bilinear")[0]
        torch.testing.assert_close(both[row], expected, rtol=1e-4, atol=1e-5)


def test_a_smaller_scale_sees_a_smoothed_photo_and_other_settings_hold_at_every_scale() -> None:
    model, images, tags = tiny_model().eval(), torch.randn(2, 3, 32, 48), [[0, 2], [1]]
    config = SeedsConfig(scales=(0.5,), kinds=("fused", "patch"), flip=False, blocks=1, precision="32")
    small = torch.nn.functional.interpolate(images, (16, 24), mode="bilinear", antialias=True)
    expected = batch_maps(model, small, tags, ("fused", "patch"), flip=False, blocks=1)
    found = scaled_maps(model, images, tags, config)
    for kind, weight in (("fused", 0.25), ("patch", 1.0)):  # a quarter as many patches
        for row, maps in zip(found[kind], expected[kind], strict=True):
            stretched = torch.nn.functional.interpolate(maps[None], (4, 6), mode="bilinear")[0]
            torch.testing.assert_close(row, weight * stretched, rtol=1e-4, atol=1e-5)


def test_one_class_and_none_have_maps_at_every_scale() -> None:
    model, config = tiny_model(background="none").eval(), SeedsConfig(scales=(2.0, 1.0), kinds=("patch",))
    maps = scaled_maps(model, torch.randn(2, 3, 32, 48), [[1], []], config)["patch"]
    assert [tuple(each.shape) for each in maps] == [(1, 4, 6), (0, 4, 6)]


@pytest.mark.parametrize(
    ("kinds", "summed"),
    [(("patch",), []), (("spread",), [range(1, 2)]), (("patch", "fused"), [range(2, 3)]),
     (("located", "attention"), [range(1, 2), range(2, 3)])],
)  # fmt: skip
def test_attention_is_summed_of_no_more_blocks_than_needed(
    model: CTI, monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...], summed: list[range]
) -> None:
    asked: list[range] = []
    monkeypatch.setattr(maps_of, "summed_forward", lambda *given: asked.extend(given[2:]) or summed_forward(*given))
    batch_maps(model, torch.randn(1, 3, 32, 32), [[0]], kinds, blocks=1)
    assert asked == summed


def test_half_precision_gives_nearly_the_same_maps() -> None:
    model, images = tiny_model().eval(), torch.randn(1, 3, 32, 48)
    full, half = (
        scaled_maps(model, images, [[0, 1]], SeedsConfig(kinds=("attention",), precision=precision))["attention"][0]
        for precision in ("32", "bf16")
    )
    assert full.dtype == half.dtype == torch.float32
    assert not torch.equal(full, half)
    torch.testing.assert_close(half, full, rtol=0.05, atol=0)  # bfloat16 has three digits at most


def test_files_come_back_as_written(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).random((2, 5, 7), dtype=np.float32) * 1e6
    seed = Seed((1, 4), (70, 98), maps, maps[0] / 3)
    write_seed(tmp_path / "a.npz", {"refined": seed, "patch": Seed((1, 4), (70, 98), maps * 2, None)})
    back = read_seed(tmp_path / "a.npz")
    assert (back.class_indices, back.size) == ((1, 4), (70, 98))
    np.testing.assert_allclose(back.maps, maps, rtol=1e-3, atol=1e-3 * maps.max())
    assert back.cams().shape == (2, 70, 98)
    background = back.background_cam()
    assert background is not None
    assert background.shape == (70, 98)
    assert read_seed(tmp_path / "a.npz", "patch").background is None
    with pytest.raises(ValueError, match="has no 'fused' maps, only refined, patch"):
        read_seed(tmp_path / "a.npz", "fused")
    (tmp_path / "b.npz").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is not a seed file"):
        read_seed(tmp_path / "b.npz")


def packed(**changed: Any) -> bytes:
    """A seed file of two classes on 4 x 4 patches, entries replaced (`maps__refined` for `maps/refined`)."""
    file = io.BytesIO()
    entries = {
        "kinds": np.array(["refined"]), "class_indices": np.array([0, 1]), "size": np.array([32, 32]),
        "maps__refined": np.ones((3, 4, 4), np.float16), "range__refined": np.ones((3, 2), np.float32),
        "has_background__refined": np.array(True),
    }  # fmt: skip
    np.savez(file, **{name.replace("__", "/"): value for name, value in (entries | changed).items()})
    return file.getvalue()


def promising(shape: str) -> bytes:
    """A seed file whose maps have a header that promises more than there is."""
    text = f"{{'descr': '<f2', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    maps = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed())) as whole, zipfile.ZipFile(file, "w") as other:
        for name in whole.namelist():
            other.writestr(name, maps if name == "maps/refined.npy" else whole.read(name))
    return file.getvalue()


def flagged(offset: int, value: int) -> bytes:
    """A seed file with a byte of its first entry in the archive's directory changed."""
    content = bytearray(packed())
    content[content.find(b"PK\x01\x02") + offset] = value
    return bytes(content)


def plain() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(promising("(1000000000000,)"), id="terabytes"),
        pytest.param(plain(), id="no archive"),
        pytest.param(flagged(8, 1), id="encrypted"),
        pytest.param(flagged(10, 99), id="unknown method"),
        pytest.param(packed(kinds=np.array([], "U1")), id="no kinds"),
        pytest.param(packed(maps__refined=np.full((3, 4, 4), np.nan, np.float16)), id="NaN"),
        pytest.param(packed(maps__refined=np.ones((2, 4, 4), np.float16)), id="a map short"),
        pytest.param(packed(size=np.array([-5, 10])), id="negative size"),
        pytest.param(packed(class_indices=np.array([-1, 3])), id="negative class"),
        pytest.param(packed(class_indices=np.array([0])), id="a class short"),
    ],
)
def test_files_that_are_no_seeds_are_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(packed())
    assert read_seed(path).class_indices == (0, 1)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz is not a seed file .*delete it and run `cti seeds` again"):
        read_seed(path)


def test_extraction_restarts_and_repairs(model: CTI, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listed = photos(tmp_path)
    out = tmp_path / "seeds"
    config = SeedsConfig(kinds=("refined", "patch"))
    extract_seeds(model, listed, config, out, RuntimeConfig(workers=0, batch_size=2))
    assert len(list(out.glob("*.npz"))) == 5
    before = (out / "0.npz").read_bytes()
    (out / "1.npz").write_bytes(before[:100])
    (out / "2.npz").unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.npz")}
    assert not caplog.records
    extract_seeds(model.train(), listed, config, out, RuntimeConfig(workers=0, batch_size=2))
    made = {path.name for path in out.glob("*.npz") if path.stat().st_mtime_ns != kept.get(path.name)}
    assert made == {"1.npz", "2.npz"}
    assert [record.message for record in caplog.records] == [f"{out / '1.npz'} cannot be read and is made again"]
    assert not model.training  # it was put into eval mode
    assert {read_seed(out / f"{photo.id}.npz").class_indices for photo in listed} == {(0, 2), (1,), ()}
    assert read_seed(out / "0.npz").size == (33, 48)


@pytest.mark.parametrize("change", [{"tags": (1, 2)}, {"size": (33, 50)}])
def test_a_seed_that_is_not_the_photos_is_made_again(
    model: CTI, tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A photo that was replaced or tagged anew while the stage stood still."""
    listed, out, runtime = photos(tmp_path, 2), tmp_path / "seeds", RuntimeConfig(workers=0)
    extract_seeds(model, listed, SeedsConfig(), out, runtime)
    kept = (out / "1.npz").stat().st_mtime_ns
    Image.new("RGB", change.get("size", (33, 48))[::-1]).save(listed[0].image)
    now = [replace(listed[0], tags=change.get("tags", listed[0].tags)), listed[1]]
    extract_seeds(model, now, SeedsConfig(), out, runtime)
    seed = read_seed(out / "0.npz")
    assert (seed.class_indices, seed.size) == (now[0].tags, change.get("size", (33, 48)))
    assert (out / "1.npz").stat().st_mtime_ns == kept
    assert [record.message for record in caplog.records] == [
        f"{out / '0.npz'} is of another size or other classes than its photo and is made again"
    ]


def test_extraction_is_seed_cams_of_each_photo(model: CTI, tmp_path: Path) -> None:
    listed = photos(tmp_path, 1)
    extract_seeds(model, listed, SeedsConfig(), tmp_path / "seeds", RuntimeConfig(workers=0))
    stored = read_seed(tmp_path / "seeds" / "0.npz").cams()
    pixels = Image.open(listed[0].image).resize((48, 32), Image.Resampling.BICUBIC)
    image = (torch.from_numpy(np.asarray(pixels).copy()).permute(2, 0, 1) / 255 - torch.tensor(model.mean)[:, None, None]) / torch.tensor(model.std)[:, None, None]  # noqa: E501  # fmt: skip
    maps = batch_maps(model, image[None].float(), [[0, 2]])
    from cti.data.seed_file import to_cams

    torch.testing.assert_close(stored, to_cams(maps["refined"][0][:2], (33, 48)), rtol=0.01, atol=0.01)


def test_scales_are_added_on_one_grid(model: CTI, tmp_path: Path) -> None:
    listed = photos(tmp_path, 2)
    extract_seeds(model, listed, SeedsConfig(scales=(1.0, 1.5)), tmp_path / "seeds", RuntimeConfig(workers=0))
    assert read_seed(tmp_path / "seeds" / "0.npz").maps.shape == (2, 4, 6)


def test_sizes_fit_patches() -> None:
    assert fit_to_patches((375, 500), 14) == (378, 504)
    assert fit_to_patches((3, 500), 16) == (16, 496)
    assert fit_to_patches((100, 100), 16, scale=0.5) == (48, 48)


@pytest.mark.parametrize("size", [(5000, 5000), (12000, 700), (1, 200_000), (200_000, 1), (640, 600)])
def test_memory_is_bounded_by_the_number_of_patches(size: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    batches._say_reduced.cache_clear()
    for _ in range(2):
        height, width = fit_to_patches(size, 8)
    assert height % 8 == width % 8 == 0
    assert 0.9 * MAX_TOKENS < height // 8 * (width // 8) <= MAX_TOKENS
    if min(size) > 8:
        assert height / width == pytest.approx(size[0] / size[1], rel=0.05)
    if size != (640, 600):
        assert caplog.text.count("are reduced before the network sees them") == 1
    else:
        assert (height, width) == size
        assert caplog.text == ""
