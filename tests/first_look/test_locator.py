"""The locator: which of a photo's classes a patch belongs to, learned from maps of a head that knows only tags."""

import torch

from cti.first_look.locator import HIGH, LOW, fit_locator, patch_targets
from cti.method import CTI
from cti.method.attention import max_norm
from cti.seeds.maps import batch_maps


def test_patches_get_the_class_that_is_strongest() -> None:
    relative = torch.tensor([[[0.9, 0.6, 0.1]], [[0.2, 0.8, 0.05]]])  # 2 classes, 1 x 3 patches
    assert patch_targets(relative, (4, 1)).tolist() == [5, 2, 0]


def test_what_is_neither_high_nor_low_is_not_learned_from() -> None:
    relative = torch.tensor([[[HIGH, LOW, (HIGH + LOW) / 2, HIGH + 0.01, LOW - 0.01]]])
    assert patch_targets(relative, (0,)).tolist() == [-1, -1, -1, 1, 0]


def test_photos_without_tags_are_background() -> None:
    assert patch_targets(torch.zeros(0, 2, 3), ()).tolist() == [0] * 6


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
    locator = fit_locator(features, maps, tags, 2)
    assert locator is not None
    truth = torch.zeros(6, 6, dtype=torch.long)
    truth[:3, :3] = 1
    for patches, tag in zip(features, tags, strict=True):
        found = locator(patches)[..., [0, *(index + 1 for index in tag)]].argmax(dim=-1)
        assert (found == truth * len(tag)).float().mean() > 0.9
    # The first maps, at the threshold of the seeds' targets, see one patch of nine.
    assert (max_norm(maps[0])[0] > HIGH).sum() == 1


def test_without_any_class_there_is_nothing_to_fit() -> None:
    assert fit_locator([torch.randn(2, 2, 3)], [torch.zeros(0, 2, 2)], [()], 2) is None


def network(background: str = "token") -> CTI:
    torch.manual_seed(0)
    return CTI(
        ["a", "b", "c"], "vit", False, image_size=32, embed_dim=16, depth=4, num_heads=2, infusion_index=1,
        patch_features="two", background=background,
    ).eval()  # fmt: skip


def test_a_network_without_a_fitted_locator_spreads() -> None:
    images = torch.randn(2, 3, 32, 48)
    maps = batch_maps(network(), images, [(0, 2), (1,)], kinds=("located", "spread"))
    for located, spread in zip(maps["located"], maps["spread"], strict=True):
        torch.testing.assert_close(located, spread)


def test_maps_are_those_of_the_probability_among_the_photos_own_classes() -> None:
    for background in ("token", "none"):
        model = network(background)
        assert model.locator is not None
        torch.nn.init.normal_(model.locator.weight)
        images = torch.randn(2, 3, 32, 48)
        both = batch_maps(model, images, [(2, 0), (1,)], kinds=("located",), flip=False)["located"]
        out = model(images)
        chosen = out.places[0][[0, 3, 1]].softmax(dim=0)[1:]  # of background, c and a, in the order asked for
        expected = out.refine(chosen[None].expand(2, -1, -1, -1), model.middle_blocks)[0]
        torch.testing.assert_close(both[0][:2], expected, rtol=1e-4, atol=1e-5)
        assert len(both[1]) == 1 + (background == "token")
