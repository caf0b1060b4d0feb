"""Where the file with a photo's tags is looked for."""

from pathlib import Path

import pytest

from cti.data.tags.beside import sidecar


@pytest.mark.parametrize("folder", ["", "one", "one/two", "one/two/three"])
@pytest.mark.parametrize("others", ["labels", "annotations", "Annotations"])
def test_it_lies_in_a_folder_beside_images_however_deep(tmp_path: Path, folder: str, others: str) -> None:
    tags = tmp_path / "images" / "set" / others / folder / "a.txt"  # the innermost `images` counts
    tags.parent.mkdir(parents=True)
    tags.write_text("cat\n")
    photo = tmp_path / "images" / "set" / "images" / folder / "a.jpg"
    assert sidecar(photo) == tags
    assert sidecar(photo.with_name("b.jpg")) is None


def test_a_folder_of_images_may_be_the_first_part_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("cat")
    monkeypatch.chdir(tmp_path)
    assert sidecar(Path("images/a.jpg")) == Path("labels/a.txt")
