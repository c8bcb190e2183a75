"""Labels of any type are read as signed integers, or refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_unet.core.errors import InputError
from napari_unet.core.labels import read_labels
from napari_unet.core.pairs import TrainingPair, annotated_planes
from napari_unet.io.stacks import label_planes


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint64, ">i4", np.float16, np.float64])
def test_small_ids_of_any_type_are_32_bits(dtype: Any) -> None:
    labels = np.array([[0, 1], [1, 0]]).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = read_labels(labels)
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels.astype(int))


@pytest.mark.parametrize("dtype", [np.uint64, np.float32, np.float64])
def test_ids_beyond_64_signed_bits_are_refused(dtype: Any) -> None:
    with pytest.raises(InputError, match="renumber the objects"):
        read_labels(np.array([[0, 2**63]], dtype))
    assert read_labels(np.array([[0, 2**62]], dtype)).dtype == np.int64


def test_a_damaged_chunk_is_told_in_one_sentence(tmp_path: Path) -> None:
    """Half a file, as an interrupted copy leaves it."""
    labels = zarr.create_array(
        tmp_path / "a.zarr", shape=(2, 40, 40), chunks=(1, 40, 40), dtype="i4"
    )
    labels[:] = np.random.default_rng(0).integers(0, 9, labels.shape)
    chunk = next(path for path in (tmp_path / "a.zarr" / "c" / "1").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:40])
    assert read_labels(labels, (0,)).max() == 8
    with pytest.raises(InputError, match=r"^The labels could not be read \(.+\)\.$"):
        read_labels(labels, (1,))
    with pytest.raises(InputError, match="The labels of cells could not be read"):
        annotated_planes([TrainingPair(np.zeros((2, 40, 40)), labels, name="cells")])
    with pytest.raises(InputError, match="The labels could not be read"):
        list(label_planes(labels))
