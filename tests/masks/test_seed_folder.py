import pytest

from cti.files import read_manifest, write_manifest
from cti.masks.seed_folder import SeedFolder


def test_reads_seeds(drawn):
    seeds = SeedFolder(drawn.seeds, ("disc", "box", "bar"))
    assert seeds(drawn.photos[0].id).class_indices == (0, 1)


def test_another_class_list_is_refused_with_both(drawn):
    with pytest.raises(ValueError, match=r"\[disc, box, bar\].*\[box, disc, bar\]"):
        SeedFolder(drawn.seeds, ("box", "disc", "bar"))


def test_a_folder_that_names_no_classes_is_refused(tmp_path):
    write_manifest(tmp_path, {})
    with pytest.raises(ValueError, match=r"\[disc\]"):
        SeedFolder(tmp_path, ("disc",))


def test_an_unfinished_stage_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="cti seeds"):
        assert SeedFolder(tmp_path, ("disc",)).identity == read_manifest(tmp_path)["finished"]
    write_manifest(tmp_path, {"classes": ["disc"]})
    assert SeedFolder(tmp_path, ("disc",)).identity == read_manifest(tmp_path)["finished"]
