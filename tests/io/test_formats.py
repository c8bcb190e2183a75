"""What each format promises to the program that reads it next."""

from __future__ import annotations

import json
import tempfile
import zipfile
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import roifile
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.core.errors import InputError, OutputError
from napari_unet.io.coco import read_coco, write_coco
from napari_unet.io.geojson import read_geojson, write_geojson
from napari_unet.io.grid import Grid, unit_ratio
from napari_unet.io.imagej_roi import read_imagej_rois, write_imagej_rois
from napari_unet.io.images import read_labels
from napari_unet.io.masks_tiff import read_masks, write_annotation, write_masks
from napari_unet.io.measurements import read_measurements
from napari_unet.io.ome_zarr import open_image, read_ome_zarr, write_ome_zarr
from napari_unet.io.registry import write_labels

RING = np.array([[0, 0, 0, 0, 0], [0, 3, 3, 3, 0], [0, 3, 0, 3, 0], [0, 3, 3, 3, 9]])


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_tiff_is_16_bit_while_it_can_be(tmp_path, largest, dtype):
    write_masks(tmp_path / "a.tif", np.array([[0, largest, -1]]))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_imagej
        assert tiff.asarray().dtype == dtype
        assert not tiff.is_bigtiff
        assert tiff.imagej_metadata["max"] == largest
        assert tiff.asarray().tolist() == [[0, largest, 0]]


def test_tiff_of_a_transposed_stack(tmp_path):
    """ImageJ's order is TZCYX, whatever the order of the layer's axes."""
    labels = np.random.default_rng(0).integers(0, 9, (2, 3, 4, 5))
    write_masks(tmp_path / "a.tif", labels, grid=Grid.of(4, axes="ZTYX"))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.series[0].axes == "TZYX"
        assert (tiff.asarray() == labels.transpose(1, 0, 2, 3)).all()


@pytest.mark.parametrize(
    "make", [np.asarray, zarr.array, da.from_array], ids=["numpy", "zarr", "dask"]
)
def test_ome_zarr_of_a_transposed_stack(tmp_path, make):
    """OME's order is TCZYX; microscopes also write depth before time."""
    labels = np.random.default_rng(0).integers(0, 9, (2, 3, 4, 5))
    grid = Grid.of(4, axes="ZTYX", scale=(7, 60, 1, 1), units=["um", "s", "um", "um"])
    write_ome_zarr(tmp_path / "a.zarr", make(labels), grid=grid)
    saved, place = read_ome_zarr(tmp_path / "a.zarr")
    np.testing.assert_array_equal(saved, labels.transpose(1, 0, 2, 3))
    assert (place.axes, place.scale[:2], place.units[0]) == ("TZYX", (60, 7), "second")


@pytest.mark.parametrize("axes", ["SYX", "ITYX"])
def test_axes_that_files_have_no_name_for_are_stacks(tmp_path, axes):
    labels = np.random.default_rng(0).integers(0, 9, (2, 3, 4, 5)[-len(axes) :])
    write_masks(tmp_path / "a.tif", labels, grid=Grid.of(len(axes), axes=axes))
    write_ome_zarr(tmp_path / "a.zarr", labels, grid=Grid.of(len(axes), axes=axes))
    ordered = labels if axes == "SYX" else labels.transpose(1, 0, 2, 3)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").data, ordered)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.zarr").data, ordered)


@pytest.mark.parametrize("write", [write_masks, write_annotation, write_ome_zarr])
def test_more_axes_than_files_have_are_refused(tmp_path, write):
    with pytest.raises(
        InputError, match="6 axes and a file of masks at most 5: save them in parts"
    ):
        write(tmp_path / "a", np.zeros((2, 2, 2, 2, 4, 5), int))


def test_a_table_has_a_column_for_each_of_many_axes(tmp_path):
    labels = np.ones((2, 1, 2, 1, 1, 2, 3), int)
    write_labels(tmp_path / "a.csv", labels)
    table = read_measurements(tmp_path / "a.csv")
    places = np.stack([column for name, column in table.items() if len(name) == 1], axis=1)
    assert places.tolist() == [list(index) for index in np.ndindex(*labels.shape[:-2])]


def test_tiff_with_an_odd_unit(tmp_path):
    write_masks(tmp_path / "a.tif", RING, grid=Grid.of(2, units="µ-steps"))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert (tiff.asarray() == RING).all()


@pytest.mark.parametrize(
    ("write", "labels"),
    [
        (write_masks, np.array([[2**32]])),
        (write_annotation, np.array([[2**31]])),
        (write_masks, np.array([[0.5]])),
        (write_masks, np.zeros((1,) * 6, int)),
        (write_ome_zarr, np.array([[0.5]])),
        (write_ome_zarr, np.zeros((1,) * 6, int)),
        (write_coco, np.array([1])),
        (write_geojson, np.array([[0.5]])),
        (write_imagej_rois, np.array([[0.5]])),
    ],
)
def test_labels_that_do_not_fit_are_one_sentence(tmp_path, write, labels):
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        write(tmp_path / "a", labels)
    assert list(tmp_path.iterdir()) == []


def test_tiff_of_a_stack_in_several_units(tmp_path):
    """Complaint 19: ImageJ knows one unit for X, Y and Z, and seconds."""
    units = ("minute", "nanometer", "micrometer", "micrometer")
    grid = Grid.of(4, scale=(5, 200, 0.1, 0.1), units=units)
    write_masks(tmp_path / "a.tif", np.ones((2, 3, 4, 5), int), grid=grid)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        entries = tiff.imagej_metadata
    assert entries["spacing"] == pytest.approx(0.2)
    assert entries["finterval"] == 300


@pytest.mark.parametrize(
    ("size", "unit", "kept"),
    [(1e-10, "meter", "micrometer"), (5e9, "nanometer", "micrometer"), (5e-10, "meter", "meter")],
)
def test_pixel_sizes_that_tiff_cannot_hold_are_written_in_another_unit(tmp_path, size, unit, kept):
    """Electron microscopes tell meters."""
    grid = Grid.of(
        3, scale=(3 * size, size, 2 * size), translate=(0, size * 7, 0), units=[unit] * 3
    )
    write_masks(tmp_path / "a.tif", np.ones((2, 4, 5), int), grid=grid)
    found = read_masks(tmp_path / "a.tif").grid
    ratio = unit_ratio(unit, kept)
    assert found.units == (kept,) * 3
    np.testing.assert_allclose(found.scale, np.array(grid.scale) * ratio, rtol=1e-6)
    np.testing.assert_allclose(found.translate, np.array(grid.translate) * ratio, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e30, np.inf])
@pytest.mark.parametrize("unit", ["", "nanometer"])
def test_pixel_sizes_that_no_unit_brings_into_tiff_are_one_sentence(tmp_path, size, unit):
    grid = Grid.of(2, scale=(1, size), units=[unit] * 2)
    with pytest.raises(InputError, match=r"^A TIFF file cannot hold a pixel size of .*OME-Zarr\.$"):
        write_masks(tmp_path / "a.tif", np.ones((4, 5), int), grid=grid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_has_a_pyramid_of_every_second_pixel(tmp_path, version):
    labels = np.random.default_rng(0).integers(0, 9, (2, 1101, 1037)).astype(np.int32)
    grid = Grid.of(3, axes="TYX", scale=(5, 0.2, 0.1), units=["s", "um", "um"])
    write_ome_zarr(tmp_path / "a.zarr", labels, grid=grid, version=version)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    attributes = dict(group.attrs) if version == "0.4" else dict(group.attrs["ome"])
    (multiscales,) = attributes["multiscales"]
    assert attributes["version" if version == "0.5" else "image-label"]
    assert [axis["type"] for axis in multiscales["axes"]] == ["time", "space", "space"]
    assert [level["path"] for level in multiscales["datasets"]] == ["0", "1", "2"]
    for number, level in enumerate(multiscales["datasets"]):
        step = 2**number
        assert (group[level["path"]][:] == labels[:, ::step, ::step]).all()
        scale, _ = level["coordinateTransformations"]
        assert scale["scale"] == [5, 0.2 * step, 0.1 * step]
        assert group[level["path"]].metadata.zarr_format == (2 if version == "0.4" else 3)


def test_ome_zarr_reads_no_more_than_a_chunk_at_once(tmp_path):
    """Complaint 18: labels larger than memory are written chunk by chunk."""

    class Watched:
        shape, dtype, largest = (2100, 1500), np.dtype(np.uint16), 0

        def __getitem__(self, place):
            block = np.zeros(self.shape, self.dtype)[place]
            self.largest = max(self.largest, block.size)
            return block

    labels = Watched()
    write_ome_zarr(tmp_path / "a.zarr", labels)
    assert labels.largest == 1024**2


def test_only_labels_are_replaced_by_ome_zarr(tmp_path):
    """Not the image, nor a folder that somebody named by mistake."""
    labels = np.eye(3, dtype=np.int32)
    zarr.create_group(tmp_path / "image.zarr").create_array("0", data=labels)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    for name in ("image.zarr", "folder"):
        with pytest.raises(OutputError, match=r"was not written.*choose another name\.$"):
            write_ome_zarr(tmp_path / name, labels)
    assert zarr.open(tmp_path / "image.zarr", mode="r")["0"].shape == (3, 3)
    assert (tmp_path / "folder" / "thesis.txt").exists()
    for version in ("0.4", "0.5", "0.4"):
        write_ome_zarr(tmp_path / "labels.zarr", labels, version=version)


def test_zarr_folders_that_hold_no_image(tmp_path):
    zarr.open_group(str(tmp_path / "empty.zarr"), mode="w")
    (tmp_path / "plain").mkdir()
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{", encoding="utf-8")
    for name in ("empty.zarr", "plain", "broken.zarr"):
        with pytest.raises(InputError, match=rf"^'{name}' [^\n]+\.$"):
            open_image(tmp_path / name)
    with pytest.raises(InputError, match="is a folder, not an image; name the image files"):
        open_image(tmp_path / "plain")


def test_a_bad_pixel_size_in_a_zarr_is_no_reason_to_refuse_it(tmp_path):
    array = zarr.create_group(tmp_path / "a.zarr").create_array("0", data=np.ones((2, 3, 4)))
    scale = {"type": "scale", "scale": [0, -2, 0.5]}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    axes = [{"name": name} for name in "zyx"]
    zarr.open_group(tmp_path / "a.zarr").attrs["multiscales"] = [
        {"axes": axes, "datasets": datasets}
    ]
    found, grid = open_image(tmp_path / "a.zarr")
    assert found.shape == array.shape
    assert grid.scale == (1, 2, 0.5)


def test_an_image_is_not_labels(tmp_path):
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(2, 2), dtype=np.float32)
    array[:] = 1
    with pytest.raises(InputError, match="not labels"):
        read_ome_zarr(tmp_path / "a.zarr")


def test_a_roi_per_object_named_by_its_label(tmp_path):
    write_imagej_rois(tmp_path / "a.zip", RING)
    rois = {roi.name: roi for roi in roifile.roiread(tmp_path / "a.zip")}
    assert set(rois) == {"3", "9"}
    assert rois["9"].roitype == roifile.ROI_TYPE.TRACED
    assert (rois["9"].left, rois["9"].top, rois["9"].right, rois["9"].bottom) == (4, 3, 5, 4)
    assert rois["3"].composite
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == ["3.roi", "9.roi"]


def test_rois_stand_on_their_slice_and_frame(tmp_path):
    stack = np.zeros((2, 3, 4, 5), int)
    stack[1, 2, 1, 1] = 6
    write_imagej_rois(tmp_path / "a.zip", stack)
    (roi,) = roifile.roiread(tmp_path / "a.zip")
    assert (roi.c_position, roi.z_position, roi.t_position) == (1, 3, 2)
    write_imagej_rois(tmp_path / "a.zip", stack[1], grid=Grid.of(3, axes="TYX"))
    (roi,) = roifile.roiread(tmp_path / "a.zip")
    assert roi.position == 3


@pytest.mark.parametrize("offset", [32_000, 60_000, 70_000])
def test_rois_far_out_in_a_large_image(tmp_path, offset):
    """Short integers end at 32,767, ImageJ's trick at 60,535."""
    labels = np.zeros((4, offset + 2000), np.uint8)
    labels[1:3, offset : offset + 900] = 1
    labels[3, offset + 1] = 1
    write_imagej_rois(tmp_path / "a.zip", labels)
    assert (read_imagej_rois(tmp_path / "a.zip", labels.shape) == labels).all()


def test_rois_of_other_programs(tmp_path):
    """Names that are not labels are counted; lines have no area."""
    square = np.array([[1, 1], [3, 1], [3, 3], [1, 3]])
    rois = [roifile.ImagejRoi.frompoints(square + n, name=f"0001-000{n}") for n in (0, 2)]
    line = roifile.ImagejRoi.frompoints(square, name="line")
    line.roitype = roifile.ROI_TYPE.POLYLINE
    roifile.roiwrite(tmp_path / "a.zip", [rois[0], line, rois[1]])
    expected = np.zeros((6, 6), int)
    expected[1:3, 1:3], expected[3:5, 3:5] = 1, 2
    assert (read_imagej_rois(tmp_path / "a.zip", (6, 6)) == expected).all()


def test_geojson_is_what_qupath_reads(tmp_path):
    write_geojson(tmp_path / "a.geojson", RING)
    content = json.loads((tmp_path / "a.geojson").read_text(encoding="utf-8"))
    ring, pixel = content["features"]
    assert content["type"] == "FeatureCollection"
    assert ring["geometry"]["type"] == "Polygon"
    assert len(ring["geometry"]["coordinates"]) == 2
    assert ring["properties"] == {"objectType": "detection", "name": "3", "label": 3}
    corners = pixel["geometry"]["coordinates"][0]
    assert corners[0] == corners[-1]
    assert sorted(corners[1:]) == [[4, 3], [4, 4], [5, 3], [5, 4]]
    assert ring["id"] != pixel["id"]
    again = tmp_path / "b.geojson"
    write_geojson(again, RING)
    assert again.read_bytes() == (tmp_path / "a.geojson").read_bytes()


def test_geojson_of_other_programs(tmp_path):
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [2, 0], [2, 2.4], [0, 2.4]]]},
    }
    (tmp_path / "a.geojson").write_text(json.dumps([feature]), encoding="utf-8")
    labels, _ = read_geojson(tmp_path / "a.geojson", (3, 4))
    assert labels.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    with pytest.raises(InputError, match="give the shape"):
        read_geojson(tmp_path / "a.geojson")


def test_coco_has_boxes_areas_and_run_lengths(tmp_path):
    write_coco(tmp_path / "a.json", RING, image_name="cells.tif")
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert content["images"] == [{"id": 1, "file_name": "cells.tif", "height": 4, "width": 5}]
    ring, pixel = content["annotations"]
    assert (ring["id"], ring["area"], ring["bbox"]) == (3, 8, [1, 1, 3, 3])
    assert (pixel["id"], pixel["area"], pixel["bbox"]) == (9, 1, [4, 3, 1, 1])
    # Column by column, background first.
    assert ring["segmentation"]["counts"] == [5, 3, 1, 1, 1, 1, 1, 3, 4]
    assert pixel["segmentation"]["counts"] == [19, 1, 0]


def test_coco_boxes_of_objects_over_whole_columns(tmp_path):
    labels = np.ones((3, 4), int)
    labels[0, 0] = labels[2, 3] = 0
    write_coco(tmp_path / "a.json", labels)
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert content["annotations"][0]["bbox"] == [0, 0, 4, 3]


def compressed(counts):
    """Encode run lengths as COCO's text: from the fourth on differences, 5 bits a character."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | 32 if more else bits) + 48)
    return text


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 60))))
def test_coco_with_compressed_run_lengths(mask):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        write_coco(path, mask)
        content = json.loads(path.read_text(encoding="utf-8"))
        for annotation in content["annotations"]:
            counts = annotation["segmentation"]["counts"]
            annotation["segmentation"]["counts"] = compressed(counts)
        path.write_text(json.dumps(content), encoding="utf-8")
        assert (read_coco(path) == mask).all()


def test_coco_with_polygons(tmp_path):
    annotation = {"id": 4, "image_id": 7, "segmentation": [[0, 0, 2, 0, 2, 1, 0, 1]]}
    content = {"images": [{"id": 7, "height": 2, "width": 3}], "annotations": [annotation]}
    (tmp_path / "a.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_coco(tmp_path / "a.json").tolist() == [[4, 4, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("ending", "read"), [("json", read_coco), ("geojson", read_geojson), ("csv", read_measurements)]
)
def test_text_with_a_byte_order_mark(tmp_path, ending, read):
    """Editors and spreadsheets on Windows put one in front when they save."""
    path = write_labels(tmp_path / f"a.{ending}", np.eye(3, dtype=int))
    before = read(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    np.testing.assert_equal(read(path), before)


def write_squares(folder, names):
    """Write pixels one below the other as objects with these names, in every format."""
    corners = [np.array([[0, n], [1, n], [1, n + 1], [0, n + 1]]) for n in range(len(names))]
    rois = [roifile.ImagejRoi.frompoints(c, name=n) for c, n in zip(corners, names, strict=True)]
    roifile.roiwrite(folder / "a.zip", rois)
    features = [
        {
            "geometry": {"type": "Polygon", "coordinates": [corner.tolist()]},
            "properties": {"name": name},
        }
        for corner, name in zip(corners, names, strict=True)
    ]
    (folder / "a.geojson").write_text(json.dumps(features), encoding="utf-8")
    annotations = [
        {"id": int(name), "image_id": 1, "segmentation": [corner.ravel().tolist()]}
        for corner, name in zip(corners, names, strict=True)
        if name
    ]
    images = [{"id": 1, "height": len(names), "width": 1}]
    content = {"images": images, "annotations": annotations}
    (folder / "a.json").write_text(json.dumps(content), encoding="utf-8")


def test_an_object_0_of_another_program_is_not_lost(tmp_path):
    """Many programs count from 0, which is background in a label image."""
    write_squares(tmp_path, ["0", "1", "2"])
    for labels in (
        read_coco(tmp_path / "a.json"),
        read_geojson(tmp_path / "a.geojson", (3, 1))[0],
        read_imagej_rois(tmp_path / "a.zip", (3, 1)),
    ):
        assert labels.ravel().tolist() == [1, 2, 3]


def test_objects_without_a_number_do_not_merge_with_numbered_ones(tmp_path):
    write_squares(tmp_path, ["", "1", "7"])
    assert read_geojson(tmp_path / "a.geojson", (3, 1))[0].ravel().tolist() == [1, 2, 3]
    assert read_imagej_rois(tmp_path / "a.zip", (3, 1)).ravel().tolist() == [1, 2, 3]


def test_numbers_that_do_not_fit_are_one_sentence(tmp_path):
    """COCO's own annotations of crowds have such numbers."""
    write_squares(tmp_path, ["1", "900100581781"])
    for read in (
        lambda: read_coco(tmp_path / "a.json"),
        lambda: read_geojson(tmp_path / "a.geojson", (2, 1)),
        lambda: read_imagej_rois(tmp_path / "a.zip", (2, 1)),
    ):
        with pytest.raises(InputError, match=r"900100581781.*renumber"):
            read()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"images": 3}', '{"features": [1]}'])
def test_other_json_is_one_sentence(tmp_path, content):
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"^'a\.json' [^\n]+\.$"):
        read_coco(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"^'a\.json' [^\n]+\.$"):
        read_geojson(tmp_path / "a.json")


def test_missing_and_foreign_files_are_one_sentence(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK nonsense")
    for read in (read_coco, read_geojson, lambda path: read_imagej_rois(path, (2, 2))):
        with pytest.raises(InputError, match=r"^There is no file [^\n]+\.$"):
            read(tmp_path / "none")
        with pytest.raises(InputError, match=r"^'a\.zip' is not [^\n]+\.$"):
            read(tmp_path / "a.zip")
