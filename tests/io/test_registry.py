"""One list of formats for panels, writers and commands."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.core.errors import InputError, OutputError
from napari_unet.io.grid import Grid
from napari_unet.io.images import read_labels
from napari_unet.io.measurements import read_measurements
from napari_unet.io.registry import Export, format_for, format_named, formats, write_labels

LABELS = np.array([[0, 1, 1], [-1, 0, 2]])


@pytest.mark.parametrize("name", [each.name for each in formats()])
def test_a_name_that_is_too_long_is_one_sentence(tmp_path, name):
    path = format_named(name).path_for(tmp_path, "x" * 300)
    with pytest.raises(OutputError, match=r"its name is too long; choose a shorter one\.$"):
        format_named(name).write(path, Export(np.ones((4, 5), np.int32)))
    assert list(tmp_path.iterdir()) == []


def test_names_and_endings_are_unique():
    for values in ([f.name for f in formats()], [f.title for f in formats()]):
        assert len(set(values)) == len(values)
    endings = [f.ending for f in formats()]
    assert len(set(endings)) == len(endings)


@pytest.mark.parametrize("name", [f.name for f in formats()])
def test_each_format_writes_and_is_recognised_by_its_usual_name(name, tmp_path):
    chosen = format_named(name)
    path = chosen.path_for(tmp_path, "cells")
    grid = Grid.of(2, scale=(0.5, 0.5), units="um")
    image = np.ones((2, 2, 3))
    assert write_labels(path, LABELS, grid=grid, image=image, channel_axis=0) == path
    assert path.exists()
    assert format_for(path) is chosen
    if chosen.content == "masks":
        back = read_labels(path)
        expected = LABELS if chosen.keeps_background else np.maximum(LABELS, 0)
        assert np.array_equal(back.data, expected)
        assert back.grid.pixel_size == (0.5, 0.5)
    if name == "csv":
        assert "max_intensity_ch2" in read_measurements(path)


def test_a_named_format_does_not_need_an_ending(tmp_path):
    write_labels(tmp_path / "cells", LABELS, format="geojson")
    assert (tmp_path / "cells").read_text(encoding="utf-8").startswith('{"type":"FeatureColl')


def test_unknown_formats_are_one_sentence():
    with pytest.raises(InputError, match=r"no format 'gif'; choose one of tiff, ome-zarr.*\.$"):
        format_named("gif")
    with pytest.raises(InputError, match=r"'a\.gif' has no ending of a known format \(\.tif.*\.$"):
        format_for("a.gif")
