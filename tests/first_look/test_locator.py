"""The locator: which of a photo's classes a patch belongs to, learned from maps of a head that knows only tags."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.distributions import MultivariateNormal

from cti.data import Photo
from cti.first_look import locator as locator_of
from cti.first_look.features import PatchFeatures
from cti.first_look.head import choose_head
from cti.first_look.locator import HIGH, LOW, fit_locator, foreground_of, locate, patch_targets, standing_out
from cti.method import CTI
from cti.method.attention import max_norm
from cti.method.checkpoint import load_model, save_model
from cti.method.locator import Fitted, Locator, pool_foreground
from cti.seeds.maps import batch_maps, located_maps


def test_patches_get_the_class_that_is_strongest() -> None:
    relative = torch.tensor([[[0.9, 0.6, 0.1]], [[0.2, 0.8, 0.05]]])  # 2 classes, 1 x 3 patches
    assert patch_targets(relative, (4, 1)).tolist() == [5, 2, 0]


def test_what_is_neither_high_nor_low_is_not_learned_from() -> None:
    relative = torch.tensor([[[HIGH, LOW, (HIGH + LOW) / 2, HIGH + 0.01, LOW - 0.01]]])
    assert patch_targets(relative, (0,)).tolist() == [-1, -1, -1, 1, 0]


def test_photos_without_tags_are_background() -> None:
    assert patch_targets(torch.zeros(0, 2, 3), ()).tolist() == [0] * 6


def test_of_each_photo_and_class_about_as_many_patches_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [torch.tensor([0] * 50 + [1] * 30 + [-1] * 20), torch.tensor([0] * 95 + [2] * 5)]
    patches = [torch.arange(100.0).view(10, 10, 1), torch.arange(100.0, 200.0).view(10, 10, 1)]
    for most, counts in ((40, [20, 10, 5]), (4, [8, 4, 4])):  # 40 / (2 photos * 2), but 4 at least
        monkeypatch.setattr("cti.first_look.locator._MAX_PATCHES", most)
        rows, labels = locator_of._chosen(patches, targets)
        assert labels.bincount().tolist() == counts
        everything = torch.cat(targets)
        assert (everything[rows[:, 0].long()] == labels).all()  # each with its own target


def toy(generator: torch.Generator, photos: int = 40) -> tuple[list[torch.Tensor], list[torch.Tensor], list[tuple]]:
    """Photos of 6 x 6 patches, class k in a 3 x 3 corner, its features along axis k; maps see the middle of it only."""
    features, maps, tags = [], [], []
    for number in range(photos):
        tag = number % 3
        patches = 0.3 * torch.randn(6, 6, 8, generator=generator)
        tags.append(() if tag == 2 else (tag,))
        if tag < 2:
            patches[:3, :3, tag] += 2
            seen = torch.zeros(1, 6, 6)
            seen[0, 1, 1], seen[0, :3, :3] = 1, seen[0, :3, :3].clamp(min=0.3)
            seen[0, 1, 1] = 1
            maps.append(seen)
        else:
            maps.append(torch.zeros(0, 6, 6))
        features.append(patches)
    return features, maps, tags


def test_it_finds_the_whole_thing_where_the_map_sees_its_middle() -> None:
    features, maps, tags = toy(torch.Generator().manual_seed(0))
    locator = Locator(8, 2)
    assert not locator.fitted
    fit_locator(locator, features, maps, tags)
    assert locator.fitted
    truth = torch.zeros(6, 6, dtype=torch.long)
    truth[:3, :3] = 1
    for patches, tag in zip(features, tags, strict=True):
        found = locator(patches)[..., [0, *(index + 1 for index in tag)]].argmax(dim=-1)
        assert (found == truth * len(tag)).float().mean() > 0.9
    # The first maps, at the threshold of the targets, see one patch of nine.
    assert (maps[0][0] > HIGH).sum() == 1


def test_densities_are_those_of_gaussians() -> None:
    features, maps, tags = toy(torch.Generator().manual_seed(1))
    locator = Locator(8, 3)  # the third class has no patch
    fit_locator(locator, features, maps, tags)
    rows, labels = locator_of._chosen(
        features, [patch_targets(each, own) for each, own in zip(maps, tags, strict=True)]
    )
    torch.testing.assert_close(locator.means[3], rows.mean(dim=0))
    within = sum(len(rows[labels == k]) * torch.cov(rows[labels == k].T, correction=0) for k in range(3)) / len(rows)
    shared = within + 0.1 * within.diagonal().mean() * torch.eye(8)
    torch.testing.assert_close(locator.whiten[3] @ locator.whiten[3].T, shared.inverse(), rtol=1e-3, atol=1e-4)
    patches = torch.randn(5, 8)
    constant = 8 / 2 * math.log(2 * math.pi)
    for channel in range(4):
        inverse = locator.whiten[channel] @ locator.whiten[channel].T
        expected = MultivariateNormal(locator.means[channel], precision_matrix=inverse).log_prob(patches)
        torch.testing.assert_close(locator(patches)[:, channel] - constant, expected, rtol=1e-4, atol=1e-4)


def test_a_covariance_is_three_tenths_its_own_and_the_rest_that_of_all() -> None:
    """Two features: background of variance (1, 1), a class of variance (9, 1), as many patches of each."""
    generator = torch.Generator().manual_seed(0)
    background = torch.randn(20_000, 2, generator=generator)
    thing = torch.randn(20_000, 2, generator=generator) * torch.tensor([3.0, 1.0])
    photos = [background.view(100, 200, 2), thing.view(100, 200, 2)]
    locator = Locator(2, 1)
    fit_locator(locator, photos, [torch.zeros(0, 100, 200), torch.ones(1, 100, 200)], [(), (0,)])
    covariances = torch.linalg.inv(locator.whiten @ locator.whiten.mT)
    shared = torch.tensor([5.0, 1.0]) + 0.1 * 3  # within classes, and a tenth of its mean variance
    torch.testing.assert_close(covariances[0].diagonal(), 0.3 * torch.ones(2) + 0.7 * shared, rtol=0.05, atol=0)
    expected = 0.3 * torch.tensor([9.0, 1.0]) + 0.7 * shared
    torch.testing.assert_close(covariances[1].diagonal(), expected, rtol=0.05, atol=0)


@pytest.mark.parametrize(("tags", "maps"), [((), torch.zeros(0, 2, 2)), ((0,), torch.ones(1, 2, 2))])
def test_without_a_class_or_a_background_there_is_nothing_to_fit(tags: tuple[int, ...], maps: torch.Tensor) -> None:
    locator = Locator(3, 2)
    fit_locator(locator, [torch.randn(2, 2, 3)], [maps], [tags])
    assert not locator.fitted


def network(background: str = "token", depth: int = 4) -> CTI:
    torch.manual_seed(0)
    return CTI(
        ["a", "b", "c"], "vit", False, image_size=32, embed_dim=16, depth=depth, num_heads=2, infusion_index=1,
        patch_features="two", background=background,
    ).eval()  # fmt: skip


def test_a_network_without_a_fitted_locator_spreads() -> None:
    images = torch.randn(2, 3, 32, 48)
    maps = batch_maps(network(), images, [(0, 2), (1,)], kinds=("located", "spread"))
    for located, spread in zip(maps["located"], maps["spread"], strict=True):
        torch.testing.assert_close(located, spread)


def fit_by_chance(locator: Locator) -> None:
    torch.nn.init.normal_(locator.means)
    locator.whiten.copy_(torch.eye(16).expand(4, 16, 16))


def test_maps_are_squares_of_the_probability_among_the_photos_own_classes() -> None:
    for background in ("token", "none"):
        model = network(background, depth=8)
        assert len(model.middle_blocks) == 2
        fit_by_chance(model.locator)
        images = torch.randn(2, 3, 32, 48)
        both = batch_maps(model, images, [(2, 0), (1,)], kinds=("located",), flip=False)["located"]
        out = model(images)
        chosen = out.located.places[0][[0, 3, 1]].softmax(dim=0)  # of background, c and a, in the order asked for
        spread = out.refine(chosen[None].expand(2, -1, -1, -1), model.middle_blocks)[0] / len(model.middle_blocks)
        torch.testing.assert_close(both[0][:2], spread[1:].square(), rtol=1e-4, atol=1e-5)
        assert len(both[1]) == 1 + (background == "token")
        if background == "token":
            torch.testing.assert_close(both[0][2], spread[0].square(), rtol=1e-4, atol=1e-5)


def test_classes_that_stand_out_are_where_patches_are_unusual() -> None:
    model = network()
    fit_by_chance(model.locator)
    plain = model(torch.randn(3, 3, 32, 48))
    distance = torch.rand(3, 4, 6) * 2
    odd = replace(plain.located, distance=distance, speaks_for=torch.tensor([True, True, False]))
    channels = torch.tensor([[1, 2, 0], [3, 3, 0], [1, 3, 0]])  # of the patch head: two that stand out, none, one
    maps = located_maps(plain, odd, channels, model.middle_blocks)
    probability = distance**8 / (1 + distance**8)
    within = plain.located.places[0].softmax(dim=0)
    share = within[1] / (within[1] + within[2])
    torch.testing.assert_close(maps[0, 0], (probability[0] * share).square(), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(maps[0, 2], (1 - probability[0]).square(), rtol=1e-3, atol=1e-5)
    certain = replace(odd, places=odd.places + torch.tensor([1e4, 0, 0, 0])[:, None, None])  # nothing but background
    nothing = located_maps(plain, certain, channels, model.middle_blocks)
    assert nothing.isfinite().all()
    assert not nothing[0, 0].any()
    usual = located_maps(plain, plain.located, channels, model.middle_blocks)
    torch.testing.assert_close(maps[1], usual[1])
    torch.testing.assert_close(maps[2, 1], usual[2, 1])
    torch.testing.assert_close(maps[2, 2], torch.minimum((1 - probability[2]).square(), usual[2, 2]))


def test_a_checkpoint_keeps_what_was_fitted(tmp_path: Path) -> None:
    model = network()
    fit_by_chance(model.locator)
    model.normality.speaks_for[1] = True
    save_model(tmp_path, model, {})
    again, _ = load_model(tmp_path)
    assert again.locator.fitted
    assert again.normality.speaks_for.tolist() == [False, True, False]


def test_what_is_not_background_is_pooled() -> None:
    patches = torch.tensor([[1.0, 10], [2, 20], [3, 30]])
    places = torch.log(torch.tensor([[1.0, 1e-12, 1e-12], [0.5, 0.25, 0.25], [1e-12, 0.5, 0.5]]))
    weights = torch.tensor([0.001, 0.501, 1.001])
    expected = (weights[:, None] * patches).sum(dim=0) / weights.sum()
    torch.testing.assert_close(pool_foreground(patches, places), expected)


def test_tags_are_those_of_what_is_not_background() -> None:
    model = network()
    fit_by_chance(model.locator)
    images = torch.randn(2, 3, 32, 48)
    before = model(images)
    torch.testing.assert_close(before.tag_logits, (before.class_logits + before.patch_logits) / 2)
    torch.nn.init.normal_(model.tag_head.weight)
    out = model(images)
    patches = model.features(images).flatten(2).transpose(1, 2)
    expected = model.tag_head(pool_foreground(patches, out.located.places.flatten(2).transpose(1, 2)))
    torch.testing.assert_close(out.tag_logits, expected, rtol=1e-4, atol=1e-4)
    start = model.first_blocks(images)
    for together in model.last_blocks([start, start]):  # of several passes each
        torch.testing.assert_close(together.located.places, out.located.places, rtol=1e-4, atol=1e-4)
    assert model.train()(images).located is None  # nothing of this is computed while training


def test_densities_are_without_rounding_and_without_gradients() -> None:
    """Given the same tokens, whatever autocast does around; tokens in half precision lose nothing more."""
    model = network()
    fit_by_chance(model.locator)
    torch.nn.init.normal_(model.tag_head.weight)
    end = model._run(model.first_blocks(torch.randn(2, 3, 32, 48)), model.infused_blocks)
    assert end.tokens.requires_grad
    assert end.early is not None
    exact = model.located(end.tokens, end.early, end.grid)
    halves = end.tokens.bfloat16(), end.early.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = model.located(end.tokens, end.early, end.grid), model.located(*halves, end.grid)
    expected = exact, model.located(*(half.float() for half in halves), end.grid)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours is not None
        assert theirs is not None
        assert torch.equal(ours.places, theirs.places)
        assert ours.tags is not None
        assert torch.equal(ours.tags, theirs.tags)
        assert not ours.places.requires_grad
        assert not ours.tags.requires_grad
        assert ours.distance is None  # it is evidence of no class
    model.normality.speaks_for[0] = True
    model.normality.whiten.copy_(torch.eye(16) / 2)
    model.normality.limit.fill_(3.0)
    known = model.located(end.tokens, end.early, end.grid)
    assert known is not None
    assert known.distance is not None
    normed = torch.nn.functional.layer_norm(end.early, (16,))
    torch.testing.assert_close(known.distance, (normed.norm(dim=-1) / 2 / 3).view(2, 4, 6))
    model.settled = Fitted(locator=False, normality=True, tag_head=True)  # as an exported graph has it
    assert model.located(end.tokens, end.early, end.grid) is None


def test_the_foreground_of_photos_is_pooled_by_the_locator() -> None:
    """It sees the first half of the features, those of the middle block; what is pooled are all."""
    model = network()
    fit_by_chance(model.locator)
    maps = tuple(torch.randn(h, w, 32).half() for h, w in ((2, 3), (4, 1)))
    found = foreground_of(model, PatchFeatures(maps))
    for row, kept in zip(found, maps, strict=True):
        patches = kept.float().view(-1, 32)
        torch.testing.assert_close(row, pool_foreground(patches, model.locator(patches[:, :16])))


def test_the_head_of_the_tags_is_fitted_to_the_foreground(monkeypatch: pytest.MonkeyPatch) -> None:
    """The locator learns from maps of the patch head, of the photo's own classes; normality from the same patches."""
    model, given = network(), dict[str, tuple]()
    fit_by_chance(model.locator)
    torch.nn.init.normal_(model.patch_head.weight, std=0.1)
    tags = [(0, 2), (), (1,)] * 4
    photos = [Photo(str(number), Path(), own) for number, own in enumerate(tags)]
    features = PatchFeatures(tuple(torch.randn(3, 4, 32).half() for _ in photos))
    monkeypatch.setattr(locator_of, "fit_locator", lambda *given_: given.update(locator=given_))
    monkeypatch.setattr(locator_of, "fit_normality", lambda *given_: given.update(normality=given_))
    logits = locate(model, features, photos)
    assert logits is not None
    assert logits.shape == (12, 3)
    _, patches, maps, own = given["locator"]
    assert own == tags
    for each, kept, relative, classes in zip(patches, features.maps, maps, tags, strict=True):
        assert torch.equal(each, kept[..., :16])
        channels = model.patch_head(kept.float().permute(2, 0, 1)[None])[0, 1:]
        torch.testing.assert_close(relative, max_norm(channels[list(classes)]))
    assert given["normality"][0] is model.normality
    assert all(torch.equal(a, b) for a, b in zip(given["normality"][1], patches, strict=True))
    pooled = foreground_of(model, features)
    labels = torch.tensor([[float(index in own) for index in range(3)] for own in tags])
    head, _, across_folds = choose_head(pooled, labels, model.classes)
    torch.testing.assert_close(logits, across_folds)
    torch.testing.assert_close(model.tag_head(pooled), head(pooled), rtol=1e-4, atol=1e-4)
    model.locator.whiten.zero_()  # nothing was fitted
    assert locate(model, features, photos) is None
    model.normality = None
    assert locate(model, features, photos) is None
    assert standing_out(model) == ()


def test_classes_that_stand_out_are_named() -> None:
    model = network()
    assert standing_out(model) == ()
    model.normality.speaks_for.copy_(torch.tensor([True, False, True]))
    assert standing_out(model) == ("a", "c")
