"""Judging a network after each epoch."""

from pathlib import Path

import pytest
import torch

from cti.config import RuntimeConfig, SeedsConfig
from cti.evaluate.tags import score_tags
from cti.method.checkpoint import save_model
from cti.train import keep
from cti.train.keep import CLEARLY, BestNetwork, Judge
from cti.train.stage import _clearly_below
from tiny import CLASSES, tiny_model


def test_photos_without_any_tag_judge_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    untagged = score_tags([[0.1, 0.2, 0.3]], [[False] * 3], CLASSES)
    assert untagged.mean_average_precision is None
    judged = []
    monkeypatch.setattr(BestNetwork, "judge", lambda *arguments: judged.append(arguments))
    judge = Judge(tiny_model(), (), SeedsConfig(), RuntimeConfig(), BestNetwork.__new__(BestNetwork))
    for scores in (untagged, None):
        monkeypatch.setattr(keep, "score_held_out", lambda *_, scores=scores: scores)
        assert dict(judge(0).scores) == {}
    assert not judged


@pytest.mark.parametrize("first", [True, False])
def test_the_first_process_judges_by_the_tags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, first: bool
) -> None:
    caplog.set_level("INFO")
    tags = score_tags([[1.0, 0, 0], [2.0, 0, 0]], [[True, False, False], [False] * 3], CLASSES)
    assert tags.mean_average_precision == 0.5
    model, best = tiny_model(), BestNetwork(tmp_path / "best", tmp_path, baseline=0.75)
    monkeypatch.setattr(keep, "score_held_out", lambda *_: tags)
    monkeypatch.setattr(keep, "is_first", lambda: first)
    found = Judge(model, (), SeedsConfig(), RuntimeConfig(), best)(4)
    assert dict(found.scores) == ({"tag_map": 0.5} if first else {})
    assert found.stop.startswith("after epoch 5 the tag mAP is 0.500" if first else "")
    assert bool(found.stop) is first
    assert ("Epoch 5: tag mAP 0.500 on 0 photos not trained on (linear head: 0.750)" in caplog.text) is first


def test_the_best_network_is_kept_and_a_clear_loss_stops(tmp_path: Path) -> None:
    """Two sound epochs, the later of them as good as the first; then one that is clearly below the linear head."""
    models = [tiny_model() for _ in range(4)]
    for number, model in enumerate(models):
        model.patch_head.bias.data.fill_(float(number))
    save_model(tmp_path / "start", models[3])
    best = BestNetwork(tmp_path / "best", tmp_path / "start", baseline=0.75)
    assert (best.best.epoch, best.best.tag_map) == (-1, 0.75)
    assert best.judge(models[0], 0, 0.75) == ""  # as good as the linear head is good enough
    assert best.judge(models[1], 1, 0.75) == ""
    assert best.judge(models[2], 2, 0.75 - CLEARLY) == ""  # not clearly yet
    assert (best.best.epoch, best.best.tag_map) == (1, 0.75)
    assert best.judge(models[2], 2, 0.7).startswith("after epoch 3 the tag mAP is 0.700, clearly below the 0.750 of")
    assert best.settle(models[2], 0.75) == ""
    assert best.settle(models[2], None) == ""
    assert models[2].patch_head.bias.data.eq(2).all()  # the last one is kept
    sentence = best.settle(models[2], 0.7)
    assert "ended at a tag mAP of 0.700, below the linear head's 0.750" in sentence
    assert "the network of epoch 2 (0.750) is kept" in sentence
    assert models[2].patch_head.bias.data.eq(1).all()

    never = BestNetwork(tmp_path / "none", tmp_path / "start", baseline=0.75)
    never.judge(models[0], 0, 0.74)
    assert "the network of the start, the linear head" in never.settle(models[0], 0.74)
    assert torch.equal(models[0].patch_head.bias, models[3].patch_head.bias)
    first = BestNetwork(tmp_path / "first", tmp_path / "start", baseline=0.75)
    first.judge(models[1], 0, 0.8)
    assert "the network of epoch 1 (0.800) is kept" in first.settle(models[2], 0.1)
    assert torch.equal(models[2].patch_head.bias, models[1].patch_head.bias)
    nothing = BestNetwork(tmp_path / "none", tmp_path, None)
    assert nothing.judge(models[0], 0, 0.0) == ""
    assert (nothing.best.epoch, nothing.best.tag_map) == (-1, 0.0)
    assert not (tmp_path / "none").exists()


def test_clearly_is_more_than_a_little() -> None:
    assert CLEARLY == 0.02
    assert _clearly_below(0.5, 0.53)
    assert not _clearly_below(0.5, 0.51)
    assert not _clearly_below(0.5, 0.4)
    assert not _clearly_below(None, 0.9)
    assert not _clearly_below(0.1, None)
