"""The stage `seeds`: which network it takes, of which photos it makes seeds, and when it makes them again."""

from pathlib import Path
from typing import Any

import pytest

from cti.config import Config, DataConfig, RuntimeConfig, SeedsConfig
from cti.method import CTI
from cti.method.checkpoint import save_model
from cti.run import Run
from cti.seeds import stage
from cti.seeds.stage import SeedsResult, seeds
from tiny import RUN_CLASSES, tiny_cti, tiny_model, write_photos

THRESHOLDS = {"cat": 0.1, "dog": -0.1, "sofa": 0.0}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Photos, and what the stage asks for, in place of doing it."""
    calls: list[Any] = []
    write_photos(tmp_path / "photos")
    monkeypatch.setattr(stage, "extract_seeds", lambda *given: calls.append(given))
    monkeypatch.setattr(stage, "with_predicted_tags", lambda *given: calls.append(given) or ["guessed"])
    monkeypatch.setattr(stage, "keep_freed_memory", lambda: calls.append("memory"))
    return calls


def new_run(tmp_path: Path, **settings: Any) -> Run:
    config = SeedsConfig(lists=("val", "train"), kinds=("fused", "patch"), **settings)
    data = DataConfig(root=str(tmp_path / "photos"))
    return Run(Config(out=str(tmp_path / "run"), data=data, seeds=config, runtime=RuntimeConfig(workers=0)))


def test_seeds_are_made_of_the_lists_by_the_runs_network(tmp_path: Path, asked: list[Any]) -> None:
    run = new_run(tmp_path)
    save_model(run.stage_folder("train"), tiny_cti(), {"tag_thresholds": THRESHOLDS})
    assert seeds(run) == SeedsResult(RUN_CLASSES, ("fused", "patch"), 6)
    memory, (model, photos, config, folder, runtime) = asked
    assert memory == "memory"
    assert model.classes == RUN_CLASSES
    assert [photo.id for photo in photos] == ["p4", "p5", "p0", "p1", "p2", "p3"]
    assert (config, folder, runtime) == (run.config.seeds, run.stage_folder("seeds"), run.config.runtime)
    asked.clear()
    assert seeds(new_run(tmp_path)).photos == 6
    assert not asked  # it has finished


def test_seeds_of_predicted_tags_are_made_beside_them(tmp_path: Path, asked: list[Any]) -> None:
    run = new_run(tmp_path, predicted_tags=("val",))
    save_model(run.stage_folder("train"), tiny_cti(), {"tag_thresholds": THRESHOLDS})
    seeds(run)
    _, (model, *_), (guesser, photos, thresholds, config, runtime), again = asked
    assert guesser is model
    assert [photo.id for photo in photos] == ["p4", "p5"]
    assert (thresholds, config, runtime) == (THRESHOLDS, run.config.seeds, run.config.runtime)
    assert again == (model, ["guessed"], run.config.seeds, run.predicted_seeds, run.config.runtime)


def test_the_authors_network_makes_other_seeds(
    tmp_path: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No trained network is needed; its seeds are not taken for those of the run's own, and its tags have no limits."""
    model, given = tiny_cti(), []
    monkeypatch.setattr(CTI, "from_official", lambda *names: given.append(names) or model)
    seeds(new_run(tmp_path, predicted_tags=("val",)), official="theirs.pth")
    assert given == [("theirs.pth", RUN_CLASSES)]
    assert asked[1][0] is model
    assert asked[2][2] == {}
    with pytest.raises(ValueError, match="other settings"):
        seeds(new_run(tmp_path, predicted_tags=("val",)))


def test_a_network_of_other_classes_is_refused(tmp_path: Path, asked: list[Any]) -> None:
    run = new_run(tmp_path)
    save_model(run.stage_folder("train"), tiny_model())
    with pytest.raises(ValueError, match=r"(?s)The network in .*train.*disc, ring, star"):
        seeds(run)
    assert not asked
