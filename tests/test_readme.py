"""Every command of the README is run, links lead somewhere, and docstrings refer to headings that exist.

The commands run as they stand, in a folder that holds what they name: `my-photos` (rendered shapes with a labels.csv,
no masks), `new-photos`, `photo.jpg`. What is substituted:

- `cti run my-photos` also gets the options of `tiny`: a network from scratch, 32 pixels, one epoch,
  photos at their own size. So have the runs that begin with that one.
- Recipes on other people's data (`voc12-animals`, `voc12`) are parsed but not run; so is `cti data prepare`, which
  would download gigabytes. tests/test_recipes.py steps the recipes, tests/data/test_data_prepare.py prepares.
- `make TARGET` is asked for what it would do (`make --dry-run`); `source` is no command of this project.
- The Python example runs with the class `cat` replaced by one of the shapes, as does `--tags cat`.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from cti import commands as commands_of_cti
from cti.arguments import command_parser
from cti.cli import COMMANDS, main
from cti.settings import config_of
from tiny import options, tiny_shapes

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TAGGED = "disc"


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.split()[:1] == [program]]


ELSEWHERE = [line for line in commands("cti") if re.search(r"--config voc12|data prepare", line)]
HERE = [line for line in commands("cti") if line not in ELSEWHERE]


SMALL = {"seeds__long_side": "0", "segment__long_side": "0", "segment__frozen_blocks": "0"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's reader has: photos with tags, new photos."""
    folder = tmp_path_factory.mktemp("desk")
    tiny_shapes(folder / "my-photos")
    shutil.rmtree(folder / "my-photos" / "masks")
    (folder / "new-photos").mkdir()
    for number in range(2):
        shutil.copyfile(
            folder / "my-photos" / "images" / f"shapes_{number:05d}.png", folder / "new-photos" / f"{number}.png"
        )
    shutil.copyfile(folder / "new-photos" / "0.png", folder / "photo.jpg")
    return folder


@pytest.fixture(scope="module")
def outcomes(desk: Path) -> dict[str, int]:
    """Exit code of every command, run in the README's order."""
    codes = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        for line in HERE:
            words = shlex.split(line, comments=True)[1:]
            if words[0] == "run" and not {"--config", "--from"} & set(words):
                words += options(Path("my-photos"), Path("runs/mine"), **SMALL)
            codes[line] = main([TAGGED if word == "cat" else word for word in words])
    return codes


@pytest.mark.parametrize("line", HERE)
def test_commands_run(line: str, outcomes: dict[str, int]) -> None:
    assert outcomes[line] == 0


def test_commands_leave_what_they_promise(desk: Path, outcomes: dict[str, int]) -> None:
    for path in ("masks/0.png", "tagged/1.png", "runs/mine/masks/preview", "runs/mine/report.html", "exported"):
        assert (desk / path).exists(), path


@pytest.mark.parametrize("line", ELSEWHERE)
def test_commands_on_other_data_are_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line, comments=True)[1:]
    if words[:2] == ["data", "prepare"]:
        asked = []
        monkeypatch.setattr("cti.data.prepare.prepare", lambda name, root: asked.append((name, root)))
        assert main(words) == 0
        assert asked == [("voc12", Path("DATA"))]
        return
    parser = command_parser(getattr(commands_of_cti, words[0]), "cti")
    words = [word.replace("--weights", "--model.weights") for word in words]
    assert config_of(parser, parser.parse_args(words[1:])).data.train == "train_aug"


def test_the_python_example_runs(desk: Path, outcomes: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk)
    (example,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(example.replace('tags=["cat"]', f'tags=["{TAGGED}"]'), "README.md", "exec"), names)
    assert names["prediction"].mask.shape == (32, 32)  # type: ignore[attr-defined]
    assert any((desk / "out").iterdir())


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_make_knows_the_targets(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [line for block in blocks("sh", text) for line in block.splitlines() if line.startswith("make ")]
    assert lines
    for line in lines:
        targets = shlex.split(line, comments=True)[1:]
        done = subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_every_command_is_in_the_table() -> None:
    table = " ".join(line for line in README.splitlines() if line.startswith("| `cti"))
    for command in COMMANDS:
        assert re.search(rf"`(cti )?{command}[` ]", table), command


def test_every_extra_is_named() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in extras.keys() - {"dev", "web-test"}:
        assert f"`{extra}`" in README, extra


def test_the_file_tree_is_the_real_one() -> None:
    (tree,) = re.findall(r"## Where things are\n\n(.*?)\n\n\[", README, re.DOTALL)
    for line in tree.splitlines():
        names = [name.strip(",") for name in re.split(r"\s{3,}|\s<-", line.strip())[0].split()]
        if line.startswith(" " * 29):
            continue  # a second line about the same place
        base = ROOT / "src" / "cti" if line.startswith(" " * 6) else ROOT
        for name in names:
            assert (base / name).exists(), f"{name} of the README's file tree"


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_docstrings_refer_to_headings_of_the_method_page() -> None:
    headings = set(re.findall(r"^#+ (.+)$", (ROOT / "docs" / "method.md").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {
        (path.name, heading)
        for folder in ("src", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for heading in re.findall(r'docs/method\.md,\s+"([^"]+)"', path.read_text(encoding="utf-8"))
    }
    assert len(asked) > 5
    assert not {(name, heading) for name, heading in asked if heading not in headings}
    assert "Optimisation" in headings  # tests/test_recipes.py


def test_the_method_page_names_code_that_exists() -> None:
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    for name in re.findall(
        r"`((?:method|train|data|seeds|masks|evaluate|segment|first_look|predict|apps)/[\w/]*(?:\.py)?)`", text
    ):
        assert (ROOT / "src" / "cti" / name).exists(), name
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "cti").rglob("*.py"))
    cells = [line.rsplit("|", 2)[1] for line in text.splitlines() if line.startswith("| ")]  # the column of the code
    for name in re.findall(r"`(?:\w+\.)?(\w+)`", " ".join(cells)):
        assert re.search(rf"\b{name}\b", source), name
