"""Several processes label one lot of photos, each a part of them."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from cti.cli import main
from cti.data.mask_records import read_records
from cti.data.readers.shapes import render_scene
from cti.predict.label import label
from cti.predict.shard import Shard
from tiny import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("shard"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    folder.mkdir()
    for index in range(9):
        Image.fromarray(render_scene(3, index, 64).image[:40, :48]).save(folder / f"p{index}.png")
    return folder


def test_the_union_of_shards_is_the_whole_and_no_photo_is_twice() -> None:
    photos = {f"folder__p{index}": Path(f"folder/p{index}.jpg") for index in range(1000)}
    for count in (1, 2, 3, 7):
        shards = [Shard(index, count).of(photos) for index in range(count)]
        assert sum(map(len, shards)) == 1000
        assert {name: path for shard in shards for name, path in shard.items()} == photos
        assert min(map(len, shards)) > 0.8 * 1000 / count


def test_a_photo_that_comes_or_goes_moves_no_other() -> None:
    photos = {f"p{index}": Path(f"p{index}.jpg") for index in range(100)}
    before = Shard(1, 3).of(photos)
    fewer = {name: path for name, path in photos.items() if name not in ("p0", "p50")}
    assert Shard(1, 3).of(fewer) == {name: path for name, path in before.items() if name in fewer}


@pytest.mark.parametrize("text", ["4/4", "0/0", "-1/4", "1", "a/b", "1/4/2", "", "1/ 4", "1.0/4", "²/4"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is none; count from 0, as in 0/4"):
        Shard.parse(text)


def test_shards_of_a_command_make_the_masks_of_one_call(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label([photos], run, tmp_path / "whole")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.png")}
    words = ["label", str(photos), "--model", str(run), "--out", str(tmp_path / "out"), "--json"]
    kept = []
    for turn in range(2):  # the second time all is done
        for index in range(3):
            assert main([*words, "--shard", f"{index}/3"]) == 0
            result = json.loads(capsys.readouterr().out)
            kept.append((result["labelled"], result["kept"]))
            assert result["out"] == str(tmp_path / "out" / f"{index}-of-3")
        assert turn == 0 or [done for done, _ in kept[3:]] == [0, 0, 0]
    assert sum(done for done, _ in kept[:3]) == sum(kept for _, kept in kept[3:]) == 9
    masks = sorted((tmp_path / "out").glob("*-of-3/*.png"))
    assert [path.name for path in sorted(masks, key=lambda path: path.name)] == sorted(whole)
    assert all(path.read_bytes() == whole[path.name] for path in masks)
    records = [name for index in range(3) for name in read_records(tmp_path / "out" / f"{index}-of-3")]
    assert sorted(records) == sorted(path.stem for path in photos.iterdir())


def test_a_shard_without_photos_is_no_failure(run: Path, photos: Path, tmp_path: Path) -> None:
    results = [label([photos / "p0.png"], run, tmp_path / "out", shard=Shard(index, 2)) for index in range(2)]
    assert sorted(result.labelled for result in results) == [0, 1]
    assert [result.exit_code for result in results] == [0, 0]


def test_another_number_of_shards_in_the_same_folder_is_refused(run: Path, photos: Path, tmp_path: Path) -> None:
    label([photos], run, tmp_path / "out", shard=Shard(0, 3))
    (tmp_path / "out" / "bird-of-prey.png").touch()
    label([photos], run, tmp_path / "out", shard=Shard(1, 3))
    with pytest.raises(ValueError, match=r"holds 0-of-3, of another number of shards; keep to it or choose another"):
        label([photos], run, tmp_path / "out", shard=Shard(0, 4))


def test_tags_of_photos_of_other_shards_are_no_strangers(run: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("image,tags\np0.png,dog\n")
    for index in range(3):
        label([photos], run, tmp_path / "out", labels=tmp_path / "tags.csv", shard=Shard(index, 3))
    records = [read_records(tmp_path / "out" / f"{index}-of-3") for index in range(3)]
    given = {name: record.given for shard in records for name, record in shard.items()}
    assert given == {f"p{index}": ("dog",) if index == 0 else None for index in range(9)}


def test_photos_without_a_mask_are_in_a_table_with_the_reason(run: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "bad, cut.png").write_bytes((photos / "p0.png").read_bytes()[:100])
    result = label([photos], run, tmp_path / "out")
    with (tmp_path / "out" / "errors.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert rows == [{"photo": str(photos / "bad, cut.png"), "reason": result.skipped[str(photos / "bad, cut.png")]}]
    assert "bad, cut.png" in rows[0]["reason"]
    (photos / "bad, cut.png").unlink()
    label([photos], run, tmp_path / "out")
    assert (tmp_path / "out" / "errors.csv").read_text() == "photo,reason\n"
