"""Inputs are found and outputs are checked before any work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from napari_unet.cli.files import (
    existing_file,
    find_images,
    plan_results,
    writable_file,
    writable_folder,
)
from napari_unet.core.errors import InputError, OutputError


def touch(*paths: Path):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_folders_patterns_and_files_in_any_mixture(tmp_path):
    day, other = tmp_path / "day", tmp_path / "other"
    touch(day / "b.tif", day / "a.png", day / "notes.txt", day / ".c.tif", day / "a_masks.tif")
    touch(other / "x1.tif", other / "x1_masks.tif", other / "y.tif")
    found = find_images([str(day), str(other / "x*.tif"), str(day / "b.tif")])
    assert found == [day / "a.png", day / "b.tif", other / "x1.tif"]


def test_a_masks_file_that_is_named_is_taken(tmp_path):
    touch(tmp_path / "a_masks.tif")
    assert find_images([str(tmp_path / "a_masks.tif")]) == [tmp_path / "a_masks.tif"]


def test_a_zarr_folder_is_one_image(tmp_path):
    (tmp_path / "big.zarr").mkdir()
    assert find_images([str(tmp_path)]) == [tmp_path / "big.zarr"]
    assert find_images([str(tmp_path / "big.zarr")]) == [tmp_path / "big.zarr"]


def test_results_of_two_images_may_not_collide():
    with pytest.raises(InputError, match="different folders"):
        plan_results([Path("one/a.tif"), Path("two/a.png")], Path("out"))
    (first,) = plan_results([Path("one/a.ome.tif")], Path("out"))
    assert first.masks == Path("out/a_masks")
    assert first.measurements == Path("out/a_measurements.csv")


def test_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        find_images([str(tmp_path / "a.tif")])
    with pytest.raises(InputError, match="No file matches"):
        find_images([str(tmp_path / "*.tif")])
    with pytest.raises(InputError, match="no image in the folder"):
        find_images([str(tmp_path)])
    with pytest.raises(InputError, match="There is no file"):
        existing_file(str(tmp_path / "a.tif"))


def test_checking_leaves_nothing_behind(tmp_path):
    target = tmp_path / "m.safetensors"
    target.write_bytes(b"old")
    assert writable_file(str(target)) == target
    assert target.read_bytes() == b"old"
    assert writable_folder(str(tmp_path / "new" / "deep")).is_dir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.safetensors", "new"]


def test_outputs_that_cannot_be(tmp_path):
    touch(tmp_path / "file")
    with pytest.raises(OutputError, match="is a folder; add a file name"):
        writable_file(str(tmp_path))
    with pytest.raises(OutputError, match="does not exist"):
        writable_file(str(tmp_path / "no" / "m.safetensors"))
    with pytest.raises(OutputError, match="not a folder"):
        writable_folder(str(tmp_path / "file"))
    with pytest.raises(OutputError, match="not a folder"):
        writable_folder(str(tmp_path / "file" / "deeper"))
    with pytest.raises(InputError, match="is an input"):
        writable_file(str(tmp_path / "file"), [tmp_path / "file"])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Nothing can be written"):
            writable_file(str(tmp_path / "m"))
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_takes_nothing():
    """The kernel's own folder refuses files, even those of root."""
    if not Path("/proc/self").is_dir():
        pytest.skip("there is no /proc on this system")
    with pytest.raises(OutputError, match="Nothing can be written"):
        writable_file("/proc/self/m.safetensors")
