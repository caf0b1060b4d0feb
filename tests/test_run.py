"""A run's folder: finished stages are not redone, other settings are refused, half a stage never counts as a whole."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from filelock import FileLock

from cti.config import Config, DataConfig, RuntimeConfig, TrainConfig
from cti.data import Photo
from cti.files import read_manifest, write_json
from cti.run import Run, split_by_file
from cti.run.stage_folder import LOCK
from cti.settings import load_config
from tiny import tiny_shapes


@dataclass(frozen=True)
class Counted:
    """A stage's result: how often it was made."""

    times: int


class Work:
    """A stage that counts how often it works."""

    def __init__(self, error: type[BaseException] | BaseException | None = None, leaves: str = "work.txt") -> None:
        self.times, self.error, self.leaves = 0, error, leaves

    def __call__(self, config: Config, name: str = "train") -> Counted:
        run = Run(config)
        with run.stage(name, ("train",)) as stage:
            if stage.finished:
                return stage.result(Counted)
            self.times += 1
            if self.leaves:
                (stage.folder / self.leaves).write_text("some")
            if self.error:
                raise self.error
            return stage.finish(Counted(self.times))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_shapes(tmp_path_factory.mktemp("data") / "shapes", count=4)


@pytest.fixture
def config(photos: Path, tmp_path: Path) -> Config:
    return Config(out=str(tmp_path / "run"), data=DataConfig(root=str(photos)))


def with_rate(config: Config, lr: float) -> Config:
    return replace(config, train=TrainConfig(lr=lr))


def test_a_finished_stage_is_not_done_again(config: Config) -> None:
    work = Work()
    assert work(config) == work(config) == Counted(1)
    assert work.times == 1


def test_that_a_stage_is_finished_is_said_once(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run = Run(config)
    for _ in range(2):
        with run.stage("train") as stage:
            if not stage.finished:
                stage.finish(Counted(1))
    assert "finished before" not in caplog.text  # it was finished just now
    for _ in range(2):
        with Run.open(config.out).stage("train"):
            pass
    assert caplog.text.count("train: finished before") == 2  # once for each sitting
    again = Run.open(config.out)
    for _ in range(2):
        with again.stage("train"):
            pass
    assert caplog.text.count("train: finished before") == 3


def test_a_stage_leaves_its_configuration_and_the_runs(config: Config) -> None:
    Work()(config)
    run = Run.open(config.out)
    assert run.config == config
    assert load_config(run.stage_folder("train") / "config.yaml") == config
    manifest = read_manifest(run.stage_folder("train"))
    assert manifest is not None
    assert manifest["stage"] == "train"
    assert manifest["seconds"] >= 0
    assert run.finished("train")
    assert not run.finished("seeds")
    assert run.result("train", Counted) == Counted(1)
    assert run.result("seeds", Counted) is None


def test_a_result_of_another_version_is_one_sentence(config: Config) -> None:
    Work()(config)
    write_json(Path(config.out) / "train" / "manifest.json", {"result": {"time": 1}})
    with pytest.raises(ValueError, match=r"manifest\.json was not written by this version of cti \(times: "):
        Run.open(config.out).result("train", Counted)


def test_an_unfinished_stage_goes_on_in_its_folder(config: Config) -> None:
    with pytest.raises(KeyboardInterrupt):
        Work(KeyboardInterrupt)(config)
    assert not Run(config).finished("train")
    assert (Path(config.out) / "train" / "work.txt").is_file()
    assert Work()(config) == Counted(1)


def test_a_start_that_fails_at_once_leaves_nothing_behind(config: Config) -> None:
    with pytest.raises(ValueError, match="broken"):
        Work(ValueError("broken"), leaves="")(config)
    assert not (Path(config.out) / "train").exists()
    Work()(with_rate(config, 0.5))  # so other settings are not refused


@pytest.mark.parametrize("error", [None, KeyboardInterrupt], ids=["finished", "unfinished"])
def test_other_settings_are_refused_and_shown(config: Config, error: type[BaseException] | None) -> None:
    with suppress(KeyboardInterrupt):
        Work(error)(config)
    with pytest.raises(ValueError, match=r"train\.lr: 6\.25e-05 there, 0\.001 now.*--out.*--overwrite"):
        Work()(with_rate(config, 1e-3))


def test_other_settings_may_be_asked_to_take_the_place(config: Config) -> None:
    Work(leaves="old.txt")(config)
    other = replace(with_rate(config, 1e-3), runtime=RuntimeConfig(overwrite=True))
    assert Work()(other) == Counted(1)
    assert not (Path(config.out) / "train" / "old.txt").exists()


def test_other_photos_are_refused(config: Config, tmp_path: Path) -> None:
    Work()(config)
    more = replace(config, data=DataConfig(root=str(tiny_shapes(tmp_path / "more", count=6))))
    with pytest.raises(ValueError, match=r"other photos \(2 photos added, 1 in another list\).*--from.*--overwrite"):
        Work()(more)


def test_what_changes_no_result_may_change(config: Config, photos: Path, tmp_path: Path) -> None:
    Work()(config)
    (tmp_path / "moved").symlink_to(photos)
    moved = DataConfig(root=str(tmp_path / "moved"))
    work = Work()
    work(replace(config, data=moved, runtime=RuntimeConfig(workers=3, checkpoint_every=7, preview=2)))
    assert work.times == 0


def test_scores_are_simply_made_again(config: Config) -> None:
    work, other = Work(), with_rate(config, 1e-3)
    work(config, "evaluate")
    assert work(other, "evaluate") == work(other, "evaluate") == Counted(2)


def test_a_stopped_repetition_does_not_pass_off_the_old_result(config: Config) -> None:
    Work()(config, "evaluate")
    other = with_rate(config, 1e-3)
    with pytest.raises(KeyboardInterrupt):
        Work(KeyboardInterrupt)(other, "evaluate")
    work = Work()
    work(other, "evaluate")
    assert work.times == 1


def test_a_run_is_where_it_lies(config: Config, tmp_path: Path) -> None:
    Work()(config)
    Path(config.out).rename(tmp_path / "elsewhere")
    run = Run.open(tmp_path / "elsewhere")
    assert run.folder == tmp_path / "elsewhere"
    assert run.finished("train")
    assert load_config(tmp_path / "elsewhere").out == str(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is no run folder"):
        Run.open(tmp_path)


def test_two_processes_in_one_run_are_noticed(config: Config) -> None:
    Path(config.out).mkdir()
    with FileLock(Path(config.out) / LOCK), pytest.raises(ValueError, match="Another process works in"):
        Work()(config)
    assert Work()(config) == Counted(1)


def test_photos_are_read_and_checked_once(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object, **options: object) -> object:
            calls.append(name)
            return function(*arguments, **options)

        return wrapper

    import cti.run.run as module

    for name in ("read_photos", "check_data"):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    run = Run(config)
    assert len(run.listed(("train", "val"))) == len(run.photos.photos()) == 4
    assert run.listed(("val", "train", "val"))[0].id == run.photos.lists["val"][0].id
    run.settings("train")
    assert calls == ["read_photos", "check_data"]


def test_photos_are_told_apart_by_their_files(tmp_path: Path) -> None:
    photos = [Photo(name, tmp_path / name, ()) for name in "abc"]
    (tmp_path / "b.png").touch()
    there, lacking = split_by_file(photos, [tmp_path / f"{photo.id}.png" for photo in photos])
    assert [photo.id for photo in there] == ["b"]
    assert [photo.id for photo in lacking] == ["a", "c"]


def test_what_a_killed_process_was_writing_is_removed(config: Config) -> None:
    run = Run(config)
    names = ("train/.state.x.tmp.pt", "evaluate/.panels.x.tmp.png", "masks/pseudo/.a.x.tmp.png", ".config.x.tmp.yaml")
    mine = run.review / ".a.x.tmp.png"  # the page may be writing there
    for path in (*(run.folder / name for name in names), mine):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    Work()(config)
    assert [name for name in names if (run.folder / name).exists()] == []
    assert mine.exists()
