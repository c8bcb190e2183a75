"""Objects of a result become annotation."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.layers import Labels

from napari_unet.core.errors import AnnotationError
from napari_unet.widgets._accept import accept_classes, accept_objects, origins
from napari_unet.widgets.session import METADATA_KEY


def result() -> Labels:
    data = np.zeros((3, 20, 30), np.uint16)
    data[1, 2:6, 2:6] = 4
    data[1, 2:6, 10:14] = 5
    data[1, 12:18, 20:28] = 9
    data[2, 2:6, 2:6] = 12
    return Labels(data)


@pytest.fixture
def annotation() -> Labels:
    data = np.zeros((3, 20, 30), np.int32)
    data[1, 2:6, 2:6] = 7
    data[1, 12:14, 20:28] = -1
    return Labels(data)


def test_objects_get_new_numbers_and_what_is_painted_stays(annotation: Labels) -> None:
    before = annotation.data.copy()
    accepted = accept_objects(result(), annotation, [(1,)], origin="model nuclei")
    assert accepted.skipped == 1  # object 4 lies on the painted object 7
    assert accepted.numbers == (8, 9)
    painted = before != 0
    np.testing.assert_array_equal(annotation.data[painted], before[painted])
    assert (annotation.data[1, 2:6, 10:14] == 8).all()
    assert (annotation.data[1, 14:18, 20:28] == 9).all()
    assert not annotation.data[2].any()


def test_one_undo_takes_everything_back(annotation: Labels) -> None:
    """complaint 15"""
    before = annotation.data.copy()
    accept_objects(result(), annotation, [(1,), (2,)])
    assert len(np.unique(annotation.data)) == 6
    annotation.undo()
    np.testing.assert_array_equal(annotation.data, before)
    annotation.redo()
    assert len(np.unique(annotation.data)) == 6


def test_the_origin_is_kept_in_metadata_and_features(annotation: Labels) -> None:
    annotation.metadata[METADATA_KEY] = {"role": "annotation"}
    accept_objects(result(), annotation, [(1,)], numbers={5}, origin="model nuclei")
    accept_objects(result(), annotation, [(2,)], origin="model mine")
    assert origins(annotation) == {8: "model nuclei", 9: "model mine"}
    assert annotation.metadata[METADATA_KEY]["role"] == "annotation"
    table = annotation.features.set_index("index")["origin"].to_dict()
    assert table == {8: "model nuclei", 9: "model mine"}


def test_columns_of_others_are_kept(annotation: Labels) -> None:
    annotation.features = {"index": [7], "stage": ["metaphase"]}
    accept_objects(result(), annotation, [(1,)], numbers={5}, origin="model nuclei")
    table = annotation.features.set_index("index")
    assert table.loc[7, "stage"] == "metaphase"
    assert table.loc[7, "origin"] == "painted"
    assert table.loc[8, "origin"] == "model nuclei"


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_objects_with_the_ids_of_other_programs_are_copied(
    annotation: Labels, dtype: type[np.integer]
) -> None:
    """Memory follows the number of objects, not the highest id."""
    data = result().data.astype(dtype)
    data[data == 5] = 2**45 + 3
    accepted = accept_objects(Labels(data), annotation, [(1,)], numbers={2**45 + 3})
    assert accepted.numbers == (8,)
    assert (annotation.data[1, 2:6, 10:14] == 8).all()
    assert accept_objects(Labels(data), annotation, [(1,)]).numbers == (9,)


def test_only_objects_mostly_inside_a_box(annotation: Labels) -> None:
    boxes = {(1,): np.array([[0, 9, 10, 13], [12, 26, 20, 30]])}
    accepted = accept_objects(result(), annotation, [(1,)], boxes=boxes)
    assert len(accepted.numbers) == 1
    assert (annotation.data[1, 2:6, 10:14] == 8).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"numbers": {77}}, "Pick an object"),
        ({"boxes": {}}, "inside the boxes"),
        ({"numbers": {4}}, "annotated already"),
    ],
)
def test_nothing_to_copy_says_why(annotation: Labels, arguments: dict, words: str) -> None:  # type: ignore[type-arg]
    before = annotation.data.copy()
    with pytest.raises(AnnotationError, match=words):
        accept_objects(result(), annotation, [(1,)], **arguments)
    np.testing.assert_array_equal(annotation.data, before)


def test_layers_of_different_size_are_refused() -> None:
    with pytest.raises(AnnotationError, match="differ in size"):
        accept_objects(result(), Labels(np.zeros((20, 30), np.int32)), [(1,)])


def test_classes_keep_their_numbers(annotation: Labels) -> None:
    before = annotation.data.copy()
    accepted = accept_classes(result(), annotation, [(1,), (2,)])
    assert accepted.numbers == (5, 9, 12)  # all of class 4 is annotated already
    assert "3 classes copied" in accepted.sentence()
    np.testing.assert_array_equal(annotation.data, np.where(before, before, result().data))
    annotation.undo()
    np.testing.assert_array_equal(annotation.data, before)
    with pytest.raises(AnnotationError, match="nothing to copy"):
        accept_classes(result(), annotation, [(1,)], numbers={4})
    boxes = {(1,): np.array([[0, 9, 4, 13]])}
    accept_classes(result(), annotation, [(1,)], boxes=boxes)
    assert (annotation.data[1, 2:4, 10:13] == 5).all() and (annotation.data == 5).sum() == 6


def test_into_an_annotation_in_a_file() -> None:
    annotation = Labels(zarr.zeros((3, 20, 30), chunks=(1, 10, 10), dtype="i4"))
    assert accept_objects(result(), annotation, [(1,), (2,)]).numbers == (1, 2, 3, 4)
    assert np.array_equal(np.asarray(annotation.data) > 0, result().data > 0)
    annotation.undo()
    assert not np.asarray(annotation.data).any()


def test_an_annotation_that_is_computed_on_demand_says_what_to_do() -> None:
    with pytest.raises(AnnotationError, match="press Copy"):
        accept_objects(result(), Labels(da.zeros((3, 20, 30), dtype=np.int32)), [(1,)])
