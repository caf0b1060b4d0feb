"""Judging a network after each epoch."""

import pytest

from cti.config import RuntimeConfig, SeedsConfig
from cti.evaluate.tags import score_tags
from cti.train import keep
from cti.train.keep import BestNetwork, Judge
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
