"""Grids of settings: what is shared, skipped, resumed and compared, on tiny runs."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from cti.apps.ablate import AblationResult, Grid, Variant, ablate, load_grid, shipped_grids
from cti.apps.ablate.numbers import FIXED, RunNumbers
from cti.apps.ablate.results import summarise, tables
from cti.cli import main
from cti.config import Config
from cti.data import read_photos
from cti.evaluate.bootstrap import mean_difference
from cti.files import from_json, read_json
from cti.method.checkpoint import load_model
from cti.settings import load_config
from tiny import options, tiny_config, tiny_shapes

GRID = {
    "title": "Tiny",
    "baseline": "tags only",
    "settings": {"seeds.lists": ["val"]},
    "repeats": 2,
    "variants": [
        {"name": "tags only", "edits": {"method.intra_weight": 0, "method.cross_weight": 0}},
        {"name": "full", "says": "the best"},
        {"name": "later", "edits": {"model.infusion_index": 1}, "against": ["tags only", "full"]},
        {"name": "cold", "edits": {"train.warm_start": "off", "model.background": "none"}},
    ],
}
MEASURE = f"val, refined, {FIXED}"


def write_grid(folder: Path, **changes: object) -> str:
    (folder / "tiny.yaml").write_text(yaml.safe_dump(GRID | changes))
    return str(folder / "tiny.yaml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Config, AblationResult]:
    folder = tmp_path_factory.mktemp("ablation")
    config = tiny_config(tiny_shapes(folder / "shapes"), folder / "runs", train__warm_start="on")
    return folder, config, ablate(write_grid(folder), config)


def folder_of(config: Config) -> Path:
    return Path(config.out) / "ablate" / "tiny"


def test_every_variant_has_every_seed(finished: tuple[Path, Config, AblationResult]) -> None:
    _, config, result = finished
    assert not result.failures
    assert result.exit_code == 0
    assert result.seeds == dict.fromkeys(("tags only", "full", "later", "cold"), (0, 1))
    out = folder_of(config)
    for name, seed, setting in (("full", 1, 1.0), ("tags only", 0, 0)):
        run = load_config(out / name / f"seed-{seed}")
        assert (run.train.seed, run.method.intra_weight) == (seed, setting)
    assert load_model(out / "later" / "seed-0" / "train")[0].infusion_index == 1
    numbers = from_json(RunNumbers, read_json(out / "full" / "seed-0" / "numbers.json"), "numbers.json")
    assert {"tag mAP", MEASURE, "token cosine, block 1", "token cosine, block 3"} <= set(numbers.values)
    assert np.array(numbers.areas[MEASURE]).shape == (len(read_photos(config.data).lists["val"]), 3, 7)


def test_a_first_look_is_made_once_for_runs_that_start_alike(finished: tuple[Path, Config, AblationResult]) -> None:
    out = folder_of(finished[1])

    def look(name: str, seed: int) -> os.stat_result:
        return (out / name / f"seed-{seed}" / "first_look" / "model.safetensors").stat()

    first = look("tags only", 0)
    assert first.st_nlink == 3
    assert look("full", 0).st_ino == look("later", 0).st_ino == first.st_ino
    assert look("full", 1).st_ino != first.st_ino
    assert not (out / "cold" / "seed-0" / "first_look").exists()
    # The link that starts with another infusion index leaves the original as it was.
    assert load_model(out / "tags only" / "seed-0" / "first_look")[0].infusion_index == 0
    assert load_model(out / "later" / "seed-0" / "first_look")[0].infusion_index == 1


def test_the_numbers_are_written_as_json_table_plot_and_page(finished: tuple[Path, Config, AblationResult]) -> None:
    _, config, result = finished
    out = folder_of(config)
    assert from_json(AblationResult, read_json(out / "ablation.json"), "ablation.json") == result
    table = (out / "ablation.md").read_text()
    assert "... less full" in table
    assert "the best" in table
    plot = (out / "ablation.svg").read_text()
    assert plot.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "var(" not in plot
    page = (out / "ablation.html").read_text()
    assert "later/seed-0" in page
    assert "<h2>Tiny</h2>" in page


def test_what_is_done_is_not_done_again(finished: tuple[Path, Config, AblationResult]) -> None:
    folder, config, result = finished
    files = [path for path in folder_of(config).rglob("*") if path.is_file() and path.parent != folder_of(config)]
    before = {path: path.stat().st_mtime_ns for path in files if path.name != ".lock"}
    assert ablate(str(folder / "tiny.yaml"), config) == result
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_killed_grid_goes_on(finished: tuple[Path, Config, AblationResult], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended in the middle of a training; the end is that of the undisturbed one."""
    folder, _, result = finished
    again = tiny_config(folder / "shapes", folder / "killed", train__warm_start="on", runtime__checkpoint_every="1")
    steps, only = 0, ["tags only", "full"]

    def killed(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 4:  # of the second run
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cti.train.fit._show", killed)
        with pytest.raises(KeyboardInterrupt):
            ablate(str(folder / "tiny.yaml"), again, 1, only)
    out = folder_of(again)
    assert (out / "tags only" / "seed-0" / "numbers.json").is_file()
    assert (out / "full" / "seed-0" / "train" / "state.pt").is_file()
    done = (out / "tags only" / "seed-0" / "train" / "model.safetensors").stat().st_mtime_ns
    resumed = ablate(str(folder / "tiny.yaml"), again, 1, only)
    assert (out / "tags only" / "seed-0" / "train" / "model.safetensors").stat().st_mtime_ns == done
    for variant in only:
        for measure, summary in result.summaries[variant].items():
            found = resumed.summaries[variant][measure].by_seed
            assert found == {0: pytest.approx(summary.by_seed[0], abs=1e-6)}, measure


def test_only_some_variants(finished: tuple[Path, Config, AblationResult]) -> None:
    folder, *_ = finished
    words = options(folder / "shapes", folder / "some", train__warm_start="on")
    command = ["ablate", str(folder / "tiny.yaml"), "--repeats", "1", *words]
    assert main([*command, "--only", "cold", "full"]) == 0
    made = folder / "some" / "ablate" / "tiny"
    assert {path.name for path in made.iterdir() if path.is_dir()} == {"cold", "full"}
    result = from_json(AblationResult, read_json(made / "ablation.json"), "ablation.json")
    assert result.seeds == {"tags only": (), "full": (0,), "later": (), "cold": (0,)}
    assert result.summaries["full"][MEASURE].differences == {}
    table, *_ = tables(result)
    rows = [name for name, _ in table.rows]
    assert [name for name in rows if not name.startswith("...")] == ["full", "cold"]
    assert {name.removeprefix("... less ") for name in rows} == {"full", "cold"}  # no comparison with what was not run
    assert "Not run: tags only, later." in table.note


def test_a_run_that_fails_ends_no_other(finished: tuple[Path, Config, AblationResult], tmp_path: Path) -> None:
    variants = [GRID["variants"][0], {"name": "wild", "edits": {"train.lr": 1e30}}]  # type: ignore[index]
    config = tiny_config(finished[0] / "shapes", tmp_path / "runs", train__epochs="3")
    result = ablate(write_grid(tmp_path, variants=variants[::-1], repeats=1), config)
    assert result.seeds == {"wild": (), "tags only": (0,)}
    assert "The loss is" in result.failures["wild, seed 0"]
    assert result.exit_code == 1
    assert "The loss is" in tables(result)[0].note


def test_wrong_grids_are_refused_before_anything_is_run(tmp_path: Path) -> None:
    config = Config(out=str(tmp_path / "runs"))
    with pytest.raises(ValueError, match="no grid 'componets'; give a YAML file or one of background, choices"):
        load_grid("componets")
    with pytest.raises(ValueError, match="two variants named a"):
        Grid("g", "t", "a", (Variant("a"), Variant("a")))
    with pytest.raises(ValueError, match=r"is no grid \(the whole: the grid tiny has no variant 'other'"):
        load_grid(write_grid(tmp_path, baseline="other"))
    with pytest.raises(ValueError, match="'a/b' is no folder's"):
        load_grid(write_grid(tmp_path, baseline="a/b", variants=[{"name": "a/b"}]))
    with pytest.raises(ValueError, match=r"is no grid \(repeat: "):
        load_grid(write_grid(tmp_path, repeat=3))
    edits = [{"name": "tags only", "edits": {"method.intra_wait": 0}}]
    with pytest.raises(ValueError, match=r"Variant tags only of the grid tiny: .*did you mean method.intra_weight"):
        ablate(write_grid(tmp_path, variants=edits), config)
    with pytest.raises(ValueError, match="no variant 'fool'"):
        ablate(write_grid(tmp_path), config, only=["fool"])


@pytest.mark.parametrize("name", list(shipped_grids()))
def test_shipped_grids_are_valid(name: str, tmp_path: Path) -> None:
    from cti.apps.ablate.grid import grid_configs

    grid = load_grid(name)
    configs = grid_configs(grid, load_config("voc12-animals"), tmp_path, 1)
    plain = load_config(tmp_path / "base.yaml")
    for variant in grid.variants:
        assert configs[variant.name, 0].model.image_size == 112
        for other in (variant, *grid.chosen(grid.others(variant) or [grid.baseline])):
            if other is not variant:
                same = (configs[other.name, 0].method, configs[other.name, 0].model, configs[other.name, 0].train)
                config = configs[variant.name, 0]
                assert same != (config.method, config.model, config.train), f"{variant.name} is {other.name}"
    assert plain == load_config("voc12-animals")


def numbers(miou: float, tags: float, areas: np.ndarray) -> RunNumbers:
    listed = tuple(tuple(map(tuple, photo.tolist())) for photo in areas)
    return RunNumbers("", {MEASURE: miou, "tag mAP": tags}, {MEASURE: listed}, "", 1.0)


def test_differences_are_paired_by_seed() -> None:
    grid = Grid("g", "t", "a", (Variant("a"), Variant("b")))
    draw = np.random.default_rng(0)
    areas = [draw.integers(1, 50, (6, 3, 3)) for _ in range(5)]
    for each in areas:
        each[:, 0] = np.minimum(each[:, 0], np.minimum(each[:, 1], each[:, 2]))
    runs = {
        ("a", 0): numbers(0.5, 0.70, areas[0]), ("a", 1): numbers(0.6, 0.80, areas[1]),
        ("b", 0): numbers(0.53, 0.71, areas[2]), ("b", 1): numbers(0.61, 0.84, areas[3]),
        ("b", 2): numbers(0.9, 0.99, areas[4]),
    }  # fmt: skip
    result = summarise(grid, 3, runs, {})
    assert result.summaries["b"]["tag mAP"].mean == pytest.approx((0.71 + 0.84 + 0.99) / 3)
    gain = result.summaries["b"]["tag mAP"].differences["a"]  # seed 2 has no partner
    assert gain.by_seed == pytest.approx({0: 0.01, 1: 0.04})
    assert gain.mean == pytest.approx(0.025)
    assert gain.spread == pytest.approx(0.03 / math.sqrt(2))
    assert gain.over_photos is None
    low, high = stats.t.interval(0.95, 1, loc=0.025, scale=0.015)
    assert gain.over_seeds == pytest.approx((low, high))
    over = result.summaries["b"][MEASURE].differences["a"].over_photos
    assert over == mean_difference(areas[2:4], areas[:2])
    assert result.summaries["a"][MEASURE].differences == {}


def test_a_mean_difference_over_runs_is_the_mean_of_the_differences() -> None:
    draw = np.random.default_rng(1)
    areas = [draw.integers(1, 40, (8, 3, 4)) for _ in range(4)]
    for each in areas:
        each[:, 0] = np.minimum(each[:, 0], np.minimum(each[:, 1], each[:, 2]))
    pairs = [mean_difference([areas[0]], [areas[2]]), mean_difference([areas[1]], [areas[3]])]
    both = mean_difference(areas[:2], areas[2:])
    assert both is not None
    values = [pair.value for pair in pairs if pair is not None]
    assert both.value == pytest.approx(np.mean(values))
    assert both.low < both.value < both.high
    with pytest.raises(ValueError, match="cannot be paired"):
        mean_difference(areas[:2], [areas[2], areas[3][:5]])
