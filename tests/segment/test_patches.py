from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cti.classes import IGNORE_INDEX
from cti.config import RuntimeConfig, SegmentConfig, SegmentTrainConfig
from cti.data.photos import Photo
from cti.segment.networks import MLPDecoder, ViTSegmenter, build_segmenter
from cti.segment.patches import (
    CHUNK,
    STEPS,
    WARM_STEPS,
    PatchDataset,
    PatchStep,
    choose,
    class_weights,
    fit_tag_head,
    frozen_features,
    patch_dataset,
    patch_loss,
    patch_shares,
    windowed_features,
)
from cti.train.fit import fit

RUNTIME = RuntimeConfig(workers=0, accelerator="cpu", devices=1, batch_size=2)
CONFIG = SegmentConfig(
    backbone="vit", weights="none", embed_dim=32, depth=4, num_heads=2, patch_size=8, crop_size=32, network="vit-mlp",
    train=SegmentTrainConfig(precision="32", lr=1e-3, batch_size=2),
)  # fmt: skip


def tiny_mlp(num_classes: int = 2) -> ViTSegmenter:
    torch.manual_seed(0)
    network = build_segmenter(CONFIG, num_classes)
    assert isinstance(network, ViTSegmenter)
    return network.eval()


def test_features_are_those_of_the_middle_block_and_of_the_last() -> None:
    network = tiny_mlp()
    images = torch.randn(2, 3, 32, 24)
    patches, grid = network.encoder.embed(images)
    tokens = torch.cat([network.cls_token.expand(2, -1, -1), patches], dim=1)
    outputs = []
    for block in network.encoder.blocks:
        tokens = block(tokens)[0] if isinstance(block(tokens), tuple) else block(tokens)
        outputs.append(tokens)
    middle, last = outputs[2], network.encoder.norm(outputs[3])
    middle = (middle - middle.mean(-1, keepdim=True)) / (middle.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    expected = torch.cat([middle, last], dim=-1)[:, 1:].reshape(2, *grid, 64).permute(0, 3, 1, 2)
    torch.testing.assert_close(network.features(images), expected, rtol=1e-4, atol=1e-5)


def test_nothing_but_the_decoder_is_trained() -> None:
    network = tiny_mlp()
    network.train()
    network(torch.randn(1, 3, 32, 32)).square().mean().backward()
    learned = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learned
    assert all(name.startswith("decoder.") for name in learned)


def test_the_decoder_is_the_one_of_the_docs() -> None:
    """Weights in use depend on it."""
    shapes = {name: tuple(value.shape) for name, value in MLPDecoder(64, 3).state_dict().items()}
    assert [shape for name, shape in shapes.items() if name.endswith("weight")] == [(256, 64), (3, 256), (2, 64)]
    assert shapes["mean"] == shapes["std"] == (64,)
    dropped = [module.p for module in MLPDecoder(64, 3).modules() if isinstance(module, torch.nn.Dropout)]
    assert dropped == [0.2, 0.2]
    decoder = MLPDecoder(4, 3).eval()
    torch.nn.init.zeros_(decoder.layers[-1].weight)
    decoder.layers[-1].bias.data = torch.tensor([0.0, 50.0, 0.0])  # sure, but never beyond 1 in ten million
    found = decoder(torch.zeros(1, 4, 1, 1), torch.zeros(1, 3, 2, 2))
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([1e-7, 1, 1e-7]).log())


def test_pixels_get_stretched_probabilities() -> None:
    network = tiny_mlp()
    images = torch.randn(1, 3, 32, 32)
    assert isinstance(network.decoder, MLPDecoder)
    patches = network.features(images).movedim(1, -1)
    probabilities = network.decoder.classify(patches).softmax(-1).movedim(-1, 1)
    expected = torch.nn.functional.interpolate(probabilities, size=(32, 32), mode="bilinear")
    torch.testing.assert_close(network(images).softmax(1), expected, rtol=1e-4, atol=1e-5)


def test_windows_join_without_a_seam() -> None:
    network = tiny_mlp()
    images = torch.randn(1, 3, 40, 64)
    whole = windowed_features(network, images, 0)
    torch.testing.assert_close(whole, network.features(images))
    parts = windowed_features(network, images, 39)  # 4 patches of 8: rows 0-3 and 1-4, columns 0-3 and 4-7
    assert parts.shape == whole.shape
    torch.testing.assert_close(parts[..., :1, 4:], network.features(images[..., :32, 32:])[..., :1, :])
    torch.testing.assert_close(parts[..., 1:, :4], network.features(images[..., 8:40, :32]))


def test_shares_are_of_labelled_pixels() -> None:
    mask = np.zeros((4, 8), np.uint8)
    mask[:2, :2] = 1
    mask[:, 4:] = 2
    mask[0, 4:] = IGNORE_INDEX
    shares = patch_shares(mask, (1, 2), 2)
    torch.testing.assert_close(shares, torch.tensor([[[0.75, 0.25, 0], [0, 0, 0.75]]]))


def test_patches_that_show_a_class_come_first_and_unlabelled_ones_never() -> None:
    shares = torch.zeros(100, 3)
    shares[:60, 0] = 1
    shares[60:70, 1] = 1
    shares[70:72, 2] = 0.02  # hardly shown
    chosen = choose(shares, 20, np.random.default_rng(0))
    assert set(range(60, 70)) < set(chosen.tolist())
    assert len(chosen) == 30
    assert max(chosen) < 72
    assert len(choose(shares, 4, np.random.default_rng(0))) == 8
    assert sorted(chosen.tolist()) == chosen.tolist()
    shares[70] = torch.tensor([0.0, 0.01, 0.02])  # together more than a fiftieth
    assert 70 in choose(shares, 11, np.random.default_rng(0))


def test_the_loss_is_that_of_a_naive_loop() -> None:
    torch.manual_seed(0)
    logits, shares = torch.randn(5, 3), torch.rand(5, 3) / 3
    shares[1] = 0
    weights = torch.tensor([0.5, 2.0, 3.0])
    total = weight = 0.0
    for row, share in zip(logits.tolist(), shares.tolist(), strict=True):
        normal = sum(np.exp(row))
        for k in range(3):
            total -= float(weights[k]) * share[k] * np.log(np.exp(row[k]) / normal)
            weight += float(weights[k]) * share[k]
    assert float(patch_loss(logits, shares, weights)) == pytest.approx(total / weight, rel=1e-5)
    assert float(patch_loss(logits, torch.zeros(5, 3), weights)) == 0


def test_rare_classes_weigh_more() -> None:
    shares = torch.tensor([[1.0, 0, 0]] * 90 + [[0, 1, 0]] * 10)
    torch.testing.assert_close(class_weights(shares, 0)[:2], torch.ones(2))
    weights = class_weights(shares, 0.5)
    assert float(weights[1] / weights[0]) == pytest.approx(3)  # 9 times as rare
    assert float(0.9 * weights[0] + 0.1 * weights[1]) == pytest.approx(1)
    assert float(weights[2] / weights[1]) == pytest.approx(10**0.5)  # of no patch: as of a single one


def test_the_step_weighs_classes_and_counts_what_is_found() -> None:
    torch.manual_seed(0)
    network, shares = tiny_mlp(), torch.tensor([[0.9, 0.1, 0.0]] * 3 + [[0.0, 0.2, 0.6]])
    assert isinstance(network.decoder, MLPDecoder)
    step = PatchStep(network, PatchDataset(torch.randn(4, 64).half(), shares, 0), 0.5, fresh=True).eval()
    patches = torch.randn(2, 2, 64).half()
    with torch.no_grad():
        logits = network.decoder.classify(patches.float()).flatten(0, 1)
        found = step({"patches": patches, "shares": shares.unflatten(0, (2, 2))}, 0)
    expected = patch_loss(logits, shares, class_weights(shares, 0.5))
    assert float(found["loss"]) == pytest.approx(float(expected), rel=1e-5)
    right = [int(row.argmax()) == best for row, best in zip(logits, [0, 0, 0, 2], strict=True)]
    assert float(found["accuracy"]) == sum(right) / 4
    settings = replace(CONFIG.train, lr=1e-3, new_lr_factor=7.0)
    groups = step.parameter_groups(replace(CONFIG, train=settings))
    assert all(group["peak_lr"] == pytest.approx(7e-3) for group in groups)
    assert sum(len(group["params"]) for group in groups) == 4  # two layers; the head for tags is fitted, not trained


def test_features_are_finite_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_mlp()
    Image.new("RGB", (16, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(network, "features", lambda images: torch.tensor([-1e6, 1e6]).expand(1, 64, 1, 2))
    network.train()
    ((photo, features),) = frozen_features(network, [Photo("a", tmp_path / "a.png", ())], 0, 0, RUNTIME)
    assert photo.id == "a"
    assert features.dtype == torch.float16
    assert (features == torch.tensor([-65504.0, 65504.0])[None, :, None]).all()
    assert not network.training


def test_draws_depend_on_seed_epoch_and_index_alone() -> None:
    patches = torch.arange(1000.0)[:, None].half()
    data = PatchDataset(patches, torch.ones(1000, 2), seed=3)
    assert len(data) == 4
    assert data[(0, 1)]["patches"].shape == (CHUNK, 1)
    assert torch.equal(data[(5, 1)]["patches"], data[(5, 1)]["patches"])
    other = PatchDataset(patches, torch.ones(1000, 2), seed=4)
    drawn = [data[(0, 0)], data[(0, 1)], data[(1, 0)], other[(0, 0)]]
    assert len({tuple(item["patches"].flatten().tolist()) for item in drawn}) == 4


def test_colours_are_learned_from_masks(tmp_path: Path) -> None:
    """Squares are red or green on grey; after a short training each is found on a photo not trained on."""
    rng = np.random.default_rng(0)

    def picture(name: str, colour: int) -> tuple[Photo, np.ndarray]:
        pixels = rng.integers(90, 130, size=(48, 48, 3)).astype(np.uint8)
        mask = np.zeros((48, 48), np.uint8)
        top, left = 8 * rng.integers(0, 3, size=2)
        pixels[top : top + 24, left : left + 24, :2] = 20
        pixels[top : top + 24, left : left + 24, colour] = 220
        mask[top : top + 24, left : left + 24] = 1 + colour
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        return Photo(id=name, image=tmp_path / f"{name}.png", tags=(colour,)), mask

    made = [picture(f"p{i}", i % 2) for i in range(13)]
    masks = {photo.id: mask for photo, mask in made}
    photos = [photo for photo, _ in made]
    network = tiny_mlp()
    features = list(frozen_features(network, photos[:12], CONFIG.long_side, 512, RUNTIME))
    data = patch_dataset(photos[:12], features, lambda photo: masks[photo.id], 2, CONFIG)
    assert len(data.patches) == 12 * 36
    assert data.patches.dtype == torch.float16
    bottom = np.repeat([False, True], 24)[:, None] & np.ones((1, 48), bool)
    weighed = patch_dataset(
        photos[:12],
        features,
        lambda photo: masks[photo.id],
        2,
        CONFIG,
        lambda photo: bottom if photo.id == "p3" else None,
    )
    more = (weighed.shares / data.shares.clamp(min=1e-9)).amax(dim=1).reshape(12, 6, 6)
    assert more[3, 3:].eq(CONFIG.reviewed_weight).all()
    assert more[3, :3].eq(1).all()
    assert more[[0, 1, 2, 4]].eq(1).all()
    step = PatchStep(network, data, balance=0.5, fresh=True)
    config = replace(CONFIG, train=replace(CONFIG.train, epochs=60, lr=3e-4))
    fit(step, data, config.train, tmp_path / "out", step.parameter_groups(config), RUNTIME)
    network.eval()
    pixels = torch.from_numpy(np.array(photos[12].load())).permute(2, 0, 1)[None].float() / 255
    mean, std = torch.tensor(network.mean)[:, None, None], torch.tensor(network.std)[:, None, None]
    found = network((pixels - mean) / std).argmax(1)[0].numpy()
    assert (found == masks["p12"]).mean() > 0.85


def test_photos_share_the_room_for_patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of each photo's share is for patches that show a class."""
    monkeypatch.setattr("cti.segment.patches.MAX_PATCHES", 16)
    mask = np.zeros((48, 48), np.uint8)
    mask[:24] = 1  # 18 patches of 36
    Image.new("RGB", (48, 48)).save(tmp_path / "grey.png")
    photos = [Photo(name, tmp_path / "grey.png", (0,)) for name in "ab"]
    features = list(frozen_features(tiny_mlp(), photos, 0, 512, RUNTIME))
    data = patch_dataset(photos, features, lambda _: mask, 2, CONFIG)
    assert data.shares[:, 1].tolist() == [1.0] * 4 + [0.0] * 4 + [1.0] * 4 + [0.0] * 4
    drawn = np.ones((48, 48), bool)
    data = patch_dataset(photos, features, lambda _: mask, 2, CONFIG, lambda photo: drawn if photo.id == "b" else None)
    assert data.by_photo == {"a": 8, "b": 36}  # all of what a person drew


def test_a_single_patch_is_enough_to_start_from() -> None:
    network = tiny_mlp()
    PatchStep(network, PatchDataset(torch.ones(1, 64).half(), torch.tensor([[0.5, 0.5, 0]]), 0), 0.5, fresh=True)
    assert network(torch.randn(1, 3, 16, 16)).isfinite().all()


def test_all_patches_together_say_which_tags_a_photo_has() -> None:
    """Class 0 shows in patches that each look like the other's; only the mean of what is not background tells."""
    torch.manual_seed(0)
    decoder = MLPDecoder(4, 3)
    photos = [Photo(f"p{n}", Path("none.png"), tags=((0,), (1,), ())[n % 3]) for n in range(60)]
    patches = torch.randn(60, 10, 4)
    for number, photo in enumerate(photos):
        patches[number, :, 0] = -5  # background
        for tag in photo.tags:
            patches[number, :4, 0] = 5
            patches[number, :4, 1 + tag] += 3
    with torch.no_grad():  # tells what is background by the first feature, and the classes not at all
        decoder.layers = torch.nn.Linear(4, 3)
        decoder.layers.weight.zero_()
        decoder.layers.weight[0, 0] = -2
        decoder.layers.bias.zero_()
    dataset = PatchDataset(patches.flatten(0, 1).half(), torch.ones(600, 3), 0, {photo.id: 10 for photo in photos[:30]})
    dataset.patches = dataset.patches[:300]
    assert not decoder.tags(patches).any()  # says nothing before
    decoder.train()
    fit_tag_head(decoder, dataset, photos, ("a", "b"))
    assert not decoder.training
    said = decoder.tags(patches[30:])  # of photos that it has not seen
    truth = torch.tensor([[tag in photo.tags for tag in range(2)] for photo in photos[30:]])
    assert ((said > 0) == truth).float().mean() > 0.95
    pooled = decoder.pool(patches)
    weights = 1 - decoder.classify(patches).softmax(-1)[..., :1]
    torch.testing.assert_close(pooled, (weights * patches).sum(1) / weights.sum(1), rtol=0.05, atol=0.05)
    assert not any(parameter.requires_grad for parameter in decoder.tag_head.parameters())


@pytest.mark.parametrize(
    ("patches", "batch_size", "passes", "more"),
    [(40, 16, 400, 100), (40, 13, 267, 67), (40, 41, 800, 200), (3, 1, 267, 67)],
)
def test_epochs_0_makes_about_800_steps_and_200_more(patches: int, batch_size: int, passes: int, more: int) -> None:
    """Of `patches` items each; with less than a batch a pass is one step."""
    dataset = PatchDataset(torch.zeros(patches * CHUNK - 1, 1), torch.zeros(1, 1), 0)
    assert len(dataset) == patches
    assert dataset.epochs(batch_size, warm=False) == passes
    assert dataset.epochs(batch_size, warm=True) == more
    assert (STEPS, WARM_STEPS, CHUNK) == (800, 200, 256)


def test_a_fresh_decoder_gets_mean_and_deviation_of_each_feature() -> None:
    patches = (torch.randn(300, 64) * torch.linspace(0.5, 3, 64) + torch.linspace(-2, 2, 64)).half()
    patches[:, 3] = 1.0  # varies nowhere
    data = PatchDataset(patches, torch.tensor([[0.5, 0.5, 0]]).expand(300, -1), 0)
    network = tiny_mlp()
    PatchStep(network, data, 0.5, fresh=True)
    assert isinstance(network.decoder, MLPDecoder)
    torch.testing.assert_close(network.decoder.mean, patches.float().mean(dim=0))
    expected = ((patches.float() - patches.float().mean(dim=0)) ** 2).mean(dim=0).sqrt().clamp(min=1e-4)
    torch.testing.assert_close(network.decoder.std, expected)
    trained = tiny_mlp()
    assert isinstance(trained.decoder, MLPDecoder)
    before = trained.decoder.mean.clone()
    PatchStep(trained, data, 0.5, fresh=False)
    assert torch.equal(trained.decoder.mean, before)
