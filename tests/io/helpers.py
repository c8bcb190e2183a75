"""Label images and grids drawn at random, for round trips."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.io.grid import Grid

UNITS = ("micrometer", "nanometer", "millimeter", "")


@st.composite
def label_images(draw, max_axes=4, largest=5, smallest=-1):
    """Draw integer arrays ``(..., Y, X)`` of 2 to ``max_axes`` axes."""
    ndim = draw(st.integers(2, max_axes))
    leading = draw(st.tuples(*[st.integers(2, 3)] * (ndim - 2)))
    plane = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    elements = st.integers(smallest, largest)
    dtype = draw(st.sampled_from([np.int32, np.int64]))
    return draw(hnp.arrays(dtype, leading + plane, elements=elements))


@st.composite
def grids(draw, ndim, same_unit=True):
    """Draw positions for an array of so many axes."""
    sizes = st.floats(0.01, 100)
    positions = st.floats(-1000, 1000)
    unit = draw(st.sampled_from(UNITS))
    axes = draw(st.sampled_from({2: ["YX"], 3: ["ZYX", "TYX"], 4: ["TZYX"]}[ndim]))
    units = [unit if same_unit or axis in "ZYX" else "second" for axis in axes]
    return Grid.of(
        ndim,
        axes=axes,
        scale=draw(st.tuples(*[sizes] * ndim)),
        translate=draw(st.tuples(*[positions] * ndim)),
        units=units,
    )


def many_objects(count=70_000, side=4):
    """Return a label image with so many objects of a few pixels each."""
    per_row = int(np.ceil(np.sqrt(count)))
    rows, columns = np.indices((per_row, per_row)) * side
    labels = np.zeros((per_row * side, per_row * side), np.int32)
    ids = np.where(np.arange(per_row**2) < count, np.arange(per_row**2) + 1, 0)
    ids = ids.reshape(per_row, per_row)
    for dy, dx in ((0, 0), (0, 1), (1, 1)):
        labels[rows + dy, columns + dx] = ids
    return labels
