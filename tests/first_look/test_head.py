"""The linear head: it finds what is there, its choice needs tags only, and what is folded in changes no answer."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from cti.data import Photo
from cti.evaluate.tags import score_tags
from cti.first_look import stage
from cti.first_look.features import PatchFeatures, evenly
from cti.first_look.head import PENALTIES, TOLERANCE, LinearHead, choose_head, fit_background, fit_head
from cti.first_look.stage import background_of, remarks_on, start_from_head
from cti.method.attention import max_norm
from tiny import CLASSES, tiny_model


def example(photos: int = 60, width: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pooled features whose first three numbers say, with noise, which of three classes is there."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(photos, 3, generator=generator) < 0.4).float()
    noise = torch.randn(photos, width, generator=generator)
    noise[:, :3] += 4 * labels
    return noise * torch.tensor([1, 10, 0.1, 1, 5, 1.0]) + 3, labels


def test_classes_that_features_tell_apart_are_learned() -> None:
    (pooled, labels), (others, truth) = example(), example(seed=1)
    head = fit_head(pooled, labels, 1e-3)
    assert score_tags(head(others), truth, CLASSES).mean_average_precision > 0.97


def test_the_mean_of_the_patches_logits_is_the_logit_of_their_mean() -> None:
    pooled, labels = example()
    head = fit_head(pooled, labels, 1e-3)
    patches = torch.randn(20, 6) * 5
    torch.testing.assert_close(head(patches).mean(dim=0), head(patches.mean(dim=0)), rtol=1e-4, atol=1e-4)


def test_the_gradient_vanishes_at_the_fit() -> None:
    """Closed form of the optimum: the penalised loss has no slope there, in standardised features."""
    pooled, labels = example()
    penalty = 1e-2
    head = fit_head(pooled, labels, penalty)
    mean, std = pooled.double().mean(dim=0), pooled.double().std(dim=0, correction=0)
    weight = (head.weight.double() * std[:, None]).requires_grad_()
    bias = (head.bias.double() + mean @ head.weight.double()).requires_grad_()
    logits = (pooled.double() - mean) / std @ weight + bias
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.double())
    (loss + penalty * weight.square().sum() / 3).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-5


def test_a_larger_penalty_makes_smaller_weights() -> None:
    pooled, labels = example()
    weak, strong = (fit_head(pooled, labels, penalty) for penalty in (1e-4, 1.0))
    assert strong.weight.norm() < weak.weight.norm() / 3


def test_a_feature_that_varies_within_photos_only_gets_no_say() -> None:
    """The scale is the patches': the mean over a photo of a feature that varies within it hardly varies at all."""
    pooled, labels = example()
    noise = torch.randn(len(pooled), 6, generator=torch.Generator().manual_seed(4))
    pooled = torch.cat([pooled, noise], dim=1)
    patches = torch.cat([pooled[:, :6].std(dim=0), torch.full((6,), 10.0)])
    by_photos, by_patches = fit_head(pooled, labels, 1e-2), fit_head(pooled, labels, 1e-2, patches)
    assert by_patches.weight[6:].norm() < by_photos.weight[6:].norm() / 3
    torch.testing.assert_close(by_photos.weight, fit_head(pooled, labels, 1e-2, pooled.std(0, correction=0)).weight)


def test_the_choice_is_by_photos_that_were_not_learned_from() -> None:
    pooled, labels = example(photos=40)
    noise = torch.randn(40, 200, generator=torch.Generator().manual_seed(3))
    head, choice, logits = choose_head(torch.cat([pooled, noise], dim=1), labels, CLASSES)
    good = [name for name, score in choice.tag_map.items() if score >= max(choice.tag_map.values()) - TOLERANCE]
    assert choice.penalty == max(float(name) for name in good)
    assert len(set(choice.tag_map.values())) > 1
    assert logits.shape == labels.shape
    assert not torch.allclose(logits, head(torch.cat([pooled, noise], dim=1)), atol=0.1)


def test_photos_are_predicted_by_heads_of_the_other_four_fifths() -> None:
    pooled, labels = example(photos=10)
    _, choice, logits = choose_head(pooled, labels, CLASSES)
    for fold in np.random.default_rng(0).permutation(10).reshape(5, 2):
        others = [photo for photo in range(10) if photo not in fold]
        head = fit_head(pooled[others], labels[others], choice.penalty)
        torch.testing.assert_close(logits[fold], head(pooled[fold]))
    _, _, alone = choose_head(pooled[:1], labels[:1], CLASSES)
    assert not alone.any()  # nobody has learned anything of another photo


def test_the_largest_penalty_that_is_nearly_as_good_as_the_best_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best has 0.9; exactly the tolerance below is good enough, as is 0.0048, but 0.0052 is not."""
    scores = iter([0.5, 0.9, 0.8952, 0.9 - TOLERANCE, 0.8948, 0.1, None, 0.9, 0.8952, 0.8948, 0.1, 0.1, 0.1, 0.1])
    monkeypatch.setattr(
        "cti.first_look.head.score_tags", lambda *_: SimpleNamespace(mean_average_precision=next(scores))
    )
    pooled, labels = example(photos=10)
    head, choice, _ = choose_head(pooled, labels, CLASSES)
    assert choice.penalty == PENALTIES[3]
    assert list(choice.tag_map) == ["0.0001", "0.0003", "0.001", "0.003", "0.01", "0.03", "0.1"]
    assert list(choice.tag_map.values()) == [0.5, 0.9, 0.8952, 0.9 - TOLERANCE, 0.8948, 0.1, None]
    torch.testing.assert_close(head.weight, fit_head(pooled, labels, PENALTIES[3]).weight)
    assert choose_head(pooled, labels, CLASSES)[1].penalty == PENALTIES[1]


def test_the_choice_works_where_there_is_little() -> None:
    pooled, labels = example(photos=3)
    labels[:] = torch.tensor([1.0, 0.0, 0.0])  # one class only, on every photo
    head, choice, _ = choose_head(pooled, labels, CLASSES)
    assert head(pooled).isfinite().all()
    _, nothing, _ = choose_head(pooled, torch.zeros(3, 3), CLASSES)
    assert set(nothing.tag_map.values()) == {None}
    assert choice.penalty in PENALTIES


def test_the_background_is_high_where_the_classes_are_low() -> None:
    """Patches are told apart by the second feature; one in ten is foreground, and both halves count alike."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1000, 4, generator=generator)
    features[:100, 1] += 4
    foreground = torch.zeros(1000)
    foreground[:100] = 0.3
    background = fit_background(features, foreground)
    logits = background(features)[:, 0]
    assert logits.shape == (1000,)
    assert (logits[:100] < 0).float().mean() > 0.95
    assert (logits[100:] > 0).float().mean() > 0.95
    assert abs(float(background.weight[1])) > 5 * float(background.weight[[0, 2, 3]].abs().max())
    assert fit_background(features, torch.zeros(1000))(features).isfinite().all()  # nothing but background
    # Both halves weigh the same: where nothing tells them apart, neither is likelier.
    alike = fit_background(torch.ones(40, 2), torch.tensor([0.0] * 30 + [1.0] * 10))
    torch.testing.assert_close(alike(torch.ones(1, 2)), torch.zeros(1, 1), rtol=0, atol=1e-3)
    # A quarter of the maximum is not background any more.
    line = torch.arange(20.0)[:, None]
    split = fit_background(line, torch.tensor([0.249] * 10 + [0.25] * 10))
    assert (split(line)[:, 0] > 0).tolist() == [True] * 10 + [False] * 10


def test_the_penalty_of_the_background_and_a_feature_that_never_changes() -> None:
    """The minimum of the weighted loss and 0.001 |w|^2, by its gradient; what does not vary has no weight."""
    generator = torch.Generator().manual_seed(0)
    features = torch.cat([torch.randn(200, 2, generator=generator), torch.full((200, 1), 7.0)], dim=1)
    foreground = (features[:, 0] + torch.randn(200, generator=generator) > 1).float()
    head = fit_background(features, foreground)
    std = features.std(dim=0, correction=0)
    standard = (features[:, :2] - features[:, :2].mean(dim=0)) / std[:2]
    weight = head.weight[:2, 0] * std[:2]
    background = 1 - foreground
    counts = torch.where(background > 0, 0.5 / background.mean(), 0.5 / foreground.mean())
    errors = counts * (head(features)[:, 0].sigmoid() - background)
    gradient = (errors[:, None] * standard).mean(dim=0) + 2 * 1e-3 * weight
    torch.testing.assert_close(gradient, torch.zeros(2), rtol=0, atol=1e-4)
    assert errors.mean().item() == pytest.approx(0, abs=1e-4)
    assert head.weight[2].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("patch_features", ["last", "two"])
@pytest.mark.parametrize("background", ["token", "cam", "none"])
def test_a_network_that_starts_from_a_head_gives_its_logits(background: str, patch_features: str) -> None:
    model = tiny_model(background=background, patch_features=patch_features).eval()
    images = torch.randn(2, 3, 32, 48)
    features = model.features(images)  # (B, D, h, w)
    pooled = torch.randn(30, features.shape[1])
    head = fit_head(pooled, (torch.rand(30, 3) < 0.5).float(), 1e-2)
    start_from_head(model, head, LinearHead(torch.ones(features.shape[1], 1), torch.tensor([0.5])))
    out = model(images)
    expected = head(features.permute(0, 2, 3, 1))  # (B, h, w, C)
    torch.testing.assert_close(out.patch_logits, expected.mean(dim=(1, 2)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out.patch_maps[:, -3:], expected.permute(0, 3, 1, 2).relu(), rtol=1e-4, atol=1e-4)
    if background != "none":
        torch.testing.assert_close(out.patch_maps[:, 0], (features.sum(dim=1) + 0.5).relu(), rtol=1e-4, atol=1e-4)


def test_classes_that_are_not_learned_are_named() -> None:
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]])
    good = score_tags(torch.tensor([[3.0, 0, 0], [0, -1, 0], [2, 0, 0], [0, -2, 0]]), labels, CLASSES)
    remarks = remarks_on(good, {"disc": 20.0, "ring": 31.0, "star": 0.0}, 100, 20)
    assert len(remarks) == 2
    assert remarks[0].startswith(
        "Tags hardly learned (average precision, photos to learn from): ring (0.42, 31 photos); look at these tags"
    )
    assert remarks[1].startswith("No photo held out has the tag star, so")
    # A quarter of the way from chance to perfect is enough: 5/12 from a chance of 2/9, not from one of 1/4.
    assert good.average_precision["ring"] == pytest.approx(5 / 12)
    for count, total, learned in ((200, 900, True), (25, 100, False)):
        said = remarks_on(good, {"disc": 20.0, "ring": count, "star": 0.0}, total, 20)
        assert any("ring (" in sentence for sentence in said) is not learned
    assert not any("pre-trained" in remark for remark in remarks)
    bad = score_tags(-torch.tensor([[3.0, 0, 0], [0, 1, 0], [2, 0, 0], [0, 2, 0]]), labels, CLASSES)
    assert remarks_on(good, {"disc": 20.0, "ring": 31.0, "star": 0.0}, 100, 0) == remarks  # in cross-validation
    *same, few = remarks_on(good, {"disc": 20.0, "ring": 31.0, "star": 0.0}, 100, 19)
    assert tuple(same) == remarks
    assert few == "Scores of tags come from 19 photos held out, too few to rely on."
    one, *_ = remarks_on(bad, {"disc": 50.0, "ring": 50.0, "star": 0.0}, 100, 20)  # one sentence for all
    assert "disc (" in one
    assert "ring (" in one
    assert "are its weights pre-trained" in remarks_on(bad, {"disc": 50.0, "ring": 50.0, "star": 0.0}, 100, 20)[-1]


def test_mean_and_spread_of_features_are_those_of_all_patches() -> None:
    maps = tuple(torch.randn(h, w, 4).half() for h, w in ((2, 3), (5, 1)))
    features = PatchFeatures(maps)
    flat = torch.cat([patches.reshape(-1, 4) for patches in maps]).float()
    torch.testing.assert_close(features.scale(), flat.std(dim=0, correction=0))
    torch.testing.assert_close(features.pooled()[1], flat[6:].mean(dim=0))
    # Half precision would not hold such a sum.
    large = torch.full((60, 60, 1), 100.0).half()
    large[::2] += 20
    assert PatchFeatures((large,)).scale().item() == pytest.approx(10)
    assert PatchFeatures((large,)).pooled().item() == pytest.approx(110)


def test_photos_are_taken_evenly() -> None:
    photos = [Photo(str(number), Path(), ()) for number in range(10)]
    assert [photo.id for photo in evenly(photos, 4)] == ["0", "3", "6", "9"]
    assert evenly(photos, 10) == photos
    assert [photo.id for photo in evenly(photos, 9)] == ["0", "1", "2", "3", "4", "6", "7", "8", "9"]


def test_the_background_is_learned_from_patches_of_all_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each as many, evenly spread; what counts in a patch is the strongest of the photo's own classes."""
    given: list[Tensor] = []
    head = LinearHead(torch.randn(4, 3), torch.randn(3))
    monkeypatch.setattr(stage, "fit_background", lambda *tensors: given.extend(tensors) or head)
    monkeypatch.setattr(stage, "MAX_PATCHES", 12)
    tags = [(0, 2), (), (1,)]
    photos = [Photo(str(number), Path(), own) for number, own in enumerate(tags)]
    maps = tuple(torch.randn(h, w, 4).half() for h, w in ((2, 5), (3, 3), (1, 3)))
    assert background_of(PatchFeatures(maps), photos, head) is head
    patches, foreground = given
    places = ([0, 3, 6, 9], [0, 3, 5, 8], [0, 1, 2])  # of a small photo all
    for number, (own, kept, chosen) in enumerate(zip(tags, maps, places, strict=True)):
        rows = slice(4 * number, 4 * number + len(chosen))
        torch.testing.assert_close(patches[rows], kept.flatten(0, 1)[chosen].float())
        strongest = torch.zeros(kept[..., 0].shape)
        for tag in own:
            strongest = torch.maximum(strongest, max_norm(head(kept)[..., tag]))
        torch.testing.assert_close(foreground[rows], strongest.flatten()[chosen])
    assert len(patches) == len(foreground) == 11
