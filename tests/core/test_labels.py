"""Labels of any type are read as signed integers, or refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from napari_unet.core.errors import InputError
from napari_unet.core.labels import read_labels


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
