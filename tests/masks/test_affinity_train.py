import dataclasses
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cti.config import AffinityConfig, MasksConfig, PamrConfig
from cti.data.seed_file import read_seed
from cti.masks.affinity_labels import confident_labels, grid_size, pair_labels, pair_offsets, to_grid
from cti.masks.affinity_net import AffinityNet, affinity_loss
from cti.masks.affinity_train import AffinityStep, Sample, load_affinity, save_affinity, train_affinity
from cti.masks.features import FeatureCache
from cti.masks.pamr import pamr_step
from cti.masks.pseudo_mask import argmax_mask
from cti.masks.random_walk import random_walk, transition_matrix
from cti.masks.scores import start_scores
from cti.masks.steps import read_rgb

CONFIG = AffinityConfig(stride=2, channels=8, epochs=10, batch_size=2, lr=2e-2, walk_steps=32, radius=3)
START = MasksConfig(threshold=0.4)


@pytest.fixture(scope="module")
def trained(drawn, features):
    samples = []
    for photo in drawn.photos:
        scores = start_scores(read_seed(drawn.seeds / f"{photo.id}.npz"), START)
        clean = pamr_step(read_rgb(photo), scores, PamrConfig(dilations=(1, 2, 4), downscale=1))
        labels = to_grid(confident_labels(clean, CONFIG), CONFIG.stride)
        samples.append(Sample(lambda photo=photo: read_rgb(photo), labels))
    return samples, {
        head: train_affinity(samples, features, dataclasses.replace(CONFIG, head=head), progress=False)
        for head in ("boundary", "pairwise")
    }


def test_a_part_of_a_thing_walks_to_its_boundary(drawn, features):
    """With the true boundary, a seed on one half of the disc fills the disc and stays within."""
    photo = drawn.photos[0]
    disc = drawn.truths[photo.id] == 1
    inside = torch.from_numpy(disc[::2, ::2]).float()[None]
    edge = (F.max_pool2d(inside, 3, stride=1, padding=1) - inside).clamp(0, 1)
    net = AffinityNet(3, dataclasses.replace(CONFIG, walk_steps=512))
    net.forward = lambda image, features: edge
    scores = np.stack([np.full(disc.shape, 0.25), disc & (np.arange(96) < 30)]).astype(np.float32)
    refined = AffinityStep(net, features)(read_rgb(photo), scores)
    before, after = (argmax_mask(maps, (0,)) == 1 for maps in (scores, refined))
    assert (before & disc).sum() < 0.6 * disc.sum()
    assert (after & disc).sum() > 0.97 * disc.sum()
    assert (after & ~disc).sum() < 0.1 * disc.sum()


def test_walk_improves_blurred_seeds(trained, drawn, features, iou):
    step = AffinityStep(trained[1]["pairwise"], features)
    gains = []
    for photo in drawn.photos:
        seed = read_seed(drawn.seeds / f"{photo.id}.npz")
        scores = start_scores(seed, START)
        refined = step(read_rgb(photo), scores)
        assert refined.shape == scores.shape
        np.testing.assert_allclose(refined[0], scores[0], rtol=1e-4)  # a constant background stays as it is
        assert 0 <= refined.min() <= refined.max() <= 1 + 1e-5
        truth = drawn.truths[photo.id]
        gains.append(
            iou(argmax_mask(refined, seed.class_indices), truth) - iou(argmax_mask(scores, seed.class_indices), truth)
        )
    assert min(gains) > 0
    assert np.mean(gains) > 0.02


def test_learning_lowers_the_loss(trained, features):
    samples, nets = trained
    fresh = AffinityNet(3, CONFIG)

    def loss(net):
        image = samples[0].load()
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return affinity_loss(net.affinity(net(pixels, features(image))), pair_labels(samples[0].labels, 3)).item()

    assert loss(nets["boundary"]) < 0.8 * loss(fresh)


def test_training_repeats_exactly(trained, features):
    config = dataclasses.replace(CONFIG, epochs=1)
    first, second = (train_affinity(trained[0], features, config, progress=False).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_head_on_disk(tmp_path, trained):
    net = trained[1]["pairwise"]
    path = tmp_path / "head.safetensors"
    assert load_affinity(path, "a") is None
    save_affinity(net, path, "a")
    assert load_affinity(path, "b") is None
    again = load_affinity(path, "a")
    assert again.config == net.config
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in again.state_dict().items())
    assert not again.training


def test_nothing_to_learn_is_said(features):
    unsure, foreground = np.full((6, 6), 255, np.uint8), np.full((6, 6), 255, np.uint8)
    foreground[:3] = 1  # of one kind only: no pair differs
    samples = [Sample(lambda: np.zeros((24, 24, 3), np.uint8), labels) for labels in (unsure, foreground)]
    with pytest.raises(ValueError, match="None of 2 photos"):
        train_affinity(samples, features, CONFIG, progress=False)


def test_photos_with_two_labels_teach_and_those_with_one_do_not(features):
    """The loss is that of the photos of which something is learned, whatever else there is."""
    image = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    both, one = np.zeros((12, 12), np.uint8), np.zeros((12, 12), np.uint8)
    both[:6] = 1  # nothing of it is unsure
    config = dataclasses.replace(CONFIG, epochs=2, batch_size=1)
    before = torch.get_rng_state()
    nets = [
        train_affinity([Sample(lambda: image, labels) for labels in lot], features, config, progress=False)
        for lot in ([both, both], [one, both, both, one])
    ]
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), before)  # what is drawn afterwards does not depend on it


def test_features_are_computed_once_per_image(tmp_path):
    calls = []

    def features(image):
        calls.append(image)
        return torch.full((2, 3, 4), float(image.mean()))

    cache = FeatureCache(features, tmp_path)
    black, grey = np.zeros((6, 8, 3), np.uint8), np.full((6, 8, 3), 9, np.uint8)
    for image, value in ((black, 0), (grey, 9), (black, 0), (grey, 9)):
        assert torch.equal(cache(image), torch.full((2, 3, 4), float(value)))
    assert len(calls) == 2


def test_training_is_that_of_a_plain_loop(trained, features, caplog):
    """AdamW, a rate that falls evenly to 0, and the mean loss of each batch; the last batch may be smaller."""
    samples = trained[0][:3]
    config = dataclasses.replace(CONFIG, epochs=2, batch_size=2, weight_decay=0.3, seed=4)
    torch.manual_seed(4)
    net = AffinityNet(3, config)
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=0.3)
    step, means = 0, []
    for epoch in range(2):
        of_epoch = []
        order = np.random.default_rng((4, epoch)).permutation(3)
        for batch in (order[:2], order[2:]):
            losses = []
            for index in batch:
                image = samples[index].load()
                affinity = net.affinity(net(torch.from_numpy(np.array(image)).permute(2, 0, 1), features(image)))
                losses.append(affinity_loss(affinity, pair_labels(samples[index].labels, config.radius)))
            optimiser.zero_grad()
            torch.stack(losses).mean().backward()
            optimiser.param_groups[0]["lr"] = config.lr * (1 - step / 4)
            optimiser.step()
            step += 1
            of_epoch += [loss.item() for loss in losses]
        means.append(np.mean(of_epoch))
    caplog.set_level("INFO")
    found = train_affinity(samples, features, config, progress=False)
    said = [record.message for record in caplog.records]
    assert said == [f"affinity epoch {number + 1} of 2: loss {mean:.4f}" for number, mean in enumerate(means)]
    assert not found.training
    for ours, plain in zip(found.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-5)


def test_a_loss_that_is_no_number_is_said(trained, features):
    def broken(image):
        return torch.full_like(features(image), torch.nan)

    with pytest.raises(ValueError, match=r"lower masks\.affinity\.lr"):
        train_affinity(trained[0][:1], broken, CONFIG, progress=False)
    calls = itertools.count()

    def breaking(image):  # at the second photo: the first call is to know how many features there are
        return features(image) if next(calls) < 2 else broken(image)

    with pytest.raises(ValueError, match=r"lower masks\.affinity\.lr"):
        train_affinity(trained[0][:2], breaking, dataclasses.replace(CONFIG, epochs=1, batch_size=1), progress=False)


def test_the_step_walks_on_the_grid_and_comes_back_to_pixels(trained, drawn, features):
    net, photo = trained[1]["boundary"], drawn.photos[0]
    image = read_rgb(photo)
    scores = start_scores(read_seed(drawn.seeds / f"{photo.id}.npz"), START)
    with torch.no_grad():
        affinity = net.affinity(net(torch.from_numpy(np.array(image)).permute(2, 0, 1), features(image))).numpy()
    coarse = F.adaptive_avg_pool2d(torch.from_numpy(scores), grid_size(scores.shape[1:], CONFIG.stride)).numpy()
    transition = transition_matrix(affinity, pair_offsets(CONFIG.radius), CONFIG.beta)
    walked = torch.from_numpy(random_walk(transition, coarse, CONFIG.walk_steps))
    expected = F.interpolate(walked[None], size=scores.shape[1:], mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(AffinityStep(net, features)(image, scores), expected, rtol=1e-5, atol=1e-6)
    background = np.ones((1, 6, 6), np.float32)
    assert AffinityStep(net, features)(image, background) is background  # a photo without a class
