"""Measurements against scikit-image's regionprops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import regionprops_table

from napari_unet.core.errors import InputError, OutputError
from napari_unet.io.grid import Grid
from napari_unet.io.measurements import measure, read_measurements, write_measurements

planes = hnp.arrays(np.int32, (7, 9), elements=st.integers(-1, 3))


@settings(deadline=None, max_examples=50)
@given(planes, st.floats(0.1, 5), st.floats(0.1, 5), st.integers(0, 2**31))
def test_shapes_and_intensities_agree_with_scikit_image(labels, height, width, seed):
    image = np.random.default_rng(seed).normal(size=(*labels.shape, 2))
    grid = Grid.of(2, scale=(height, width), translate=(3, -4), units="um")
    ours = measure(labels, image, channel_axis=2, channel_names=["a", "b"], grid=grid)
    positive = np.maximum(labels, 0)
    properties = ("label", "area", "centroid", "bbox", "equivalent_diameter_area")
    plain = regionprops_table(positive, properties=properties)
    scaled = regionprops_table(
        positive,
        image,
        spacing=(height, width),
        properties=(
            *("area", "centroid", "equivalent_diameter_area", "eccentricity"),
            *("intensity_mean", "intensity_min", "intensity_max"),
        ),
    )
    expected = {
        "label": plain["label"],
        "area_px": plain["area"],
        "centroid_y_px": plain["centroid-0"],
        "centroid_x_px": plain["centroid-1"],
        "bbox_top_px": plain["bbox-0"],
        "bbox_left_px": plain["bbox-1"],
        "bbox_bottom_px": plain["bbox-2"],
        "bbox_right_px": plain["bbox-3"],
        "equivalent_diameter_px": plain["equivalent_diameter_area"],
        "area_um2": scaled["area"],
        "centroid_y_um": scaled["centroid-0"] + 3,
        "centroid_x_um": scaled["centroid-1"] - 4,
        "equivalent_diameter_um": scaled["equivalent_diameter_area"],
        "mean_intensity_a": scaled["intensity_mean-0"],
        "min_intensity_a": scaled["intensity_min-0"],
        "max_intensity_b": scaled["intensity_max-1"],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-9, atol=1e-9, err_msg=name)
    # A square root near 0 doubles the rounding error's exponent.
    np.testing.assert_allclose(ours["eccentricity"], scaled["eccentricity"], atol=1e-6)


def test_boxes_in_units_run_along_pixel_edges():
    labels = np.zeros((5, 5), int)
    labels[1:3, 2:5] = 1
    table = measure(labels, grid=Grid.of(2, scale=(2, 0.5), translate=(10, 20), units="nm"))
    assert table["bbox_top_nm"] == 10 + 0.5 * 2
    assert table["bbox_bottom_nm"] == 10 + 2.5 * 2
    assert table["bbox_left_nm"] == 20 + 1.5 * 0.5
    assert table["bbox_right_nm"] == 20 + 4.5 * 0.5


def test_without_a_pixel_size_there_are_no_units():
    assert all(not name.endswith(("um", "um2")) for name in measure(np.eye(3, dtype=int)))


def test_stacks_are_measured_plane_by_plane():
    stack = np.zeros((2, 3, 4, 5), int)
    stack[0, 2, 1, 1] = stack[1, 0, 2, 2:] = 7
    table = measure(stack, stack * 10)
    assert table["t"].tolist() == [0, 1]
    assert table["z"].tolist() == [2, 0]
    assert table["label"].tolist() == [7, 7]
    assert table["area_px"].tolist() == [1, 3]
    assert table["mean_intensity"].tolist() == [70, 70]


def test_the_table_comes_back_exactly(tmp_path):
    labels = np.random.default_rng(0).integers(0, 6, (20, 20))
    grid = Grid.of(2, scale=(0.3, 0.3), units="µm")
    image = np.random.default_rng(1).random((20, 20))
    write_measurements(tmp_path / "a.csv", labels, image, grid=grid)
    table, back = measure(labels, image, grid=grid), read_measurements(tmp_path / "a.csv")
    assert list(back) == list(table)
    for name in table:
        assert back[name].tolist() == table[name].tolist()
    assert (tmp_path / "a.csv").read_bytes().isascii()


def test_no_objects_give_a_header(tmp_path):
    write_measurements(tmp_path / "a.csv", np.zeros((3, 3), int))
    text = (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert text.startswith("label,area_px,") and text.count("\n") == 1


def test_another_size_is_one_sentence():
    with pytest.raises(InputError, match="same size"):
        measure(np.zeros((3, 3), int), np.zeros((3, 4)))
    with pytest.raises(InputError, match="different names"):
        measure(np.zeros((3, 3), int), np.zeros((3, 3, 2)), channel_axis=2, channel_names=["a"])


def test_files_that_are_no_table(tmp_path):
    for name, content in {"a.csv": "", "b.csv": "x,y\n1\n", "c.csv": "x\nhello\n"}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match="not a table"):
            read_measurements(tmp_path / name)
    with pytest.raises(InputError, match="There is no file"):
        read_measurements(tmp_path / "none.csv")


def test_a_full_disk_keeps_the_old_table(tmp_path, small_disk):
    write_measurements(tmp_path / "a.csv", np.eye(2, dtype=int))
    before = (tmp_path / "a.csv").read_bytes()
    with pytest.raises(OutputError, match="no room left"):
        write_measurements(tmp_path / "a.csv", np.arange(900).reshape(30, 30))
    assert (tmp_path / "a.csv").read_bytes() == before
