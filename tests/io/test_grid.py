"""Axes, positions and the many spellings of units."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.core.errors import InputError
from napari_unet.io.grid import Grid, grid_for, unit_name, unit_ratio, unit_symbol


@pytest.mark.parametrize("spelling", ["µm", "μm", "um", "micron", "Micrometer", " microns ", "UM"])
def test_micrometres_have_one_name(spelling):
    assert unit_name(spelling) == "micrometer"


@pytest.mark.parametrize("spelling", ["pixel", "px", "", None, "dimensionless"])
def test_pixels_have_no_unit(spelling):
    assert unit_name(spelling) == ""


def test_pint_units_are_understood():
    """napari's layers hold pint units (complaint 19)."""
    pint = pytest.importorskip("pint")
    registry = pint.UnitRegistry()
    grid = Grid.of(3, units=[registry.second, registry.micrometer, registry.micrometer])
    assert grid.units == ("second", "micrometer", "micrometer")


def test_symbols_go_back_to_names():
    for name in ("micrometer", "nanometer", "millimeter", "second", "angstrom", "furlong"):
        assert unit_name(unit_symbol(name)) == name


def test_units_of_one_kind_can_be_compared():
    assert unit_ratio("nanometer", "micrometer") == pytest.approx(1e-3)
    assert unit_ratio("minute", "second") == 60
    assert unit_ratio("furlong", "furlong") == 1
    assert unit_ratio("minute", "meter") is unit_ratio("", "meter") is None


def test_what_is_not_known_is_plain_pixels():
    grid = Grid.of(4)
    assert grid == Grid("TZYX", (1, 1, 1, 1), (0, 0, 0, 0), ("", "", "", ""))
    assert grid.pixel_size is None


@pytest.mark.parametrize("axes", ["time,y,x", "tyx", "TYX", ("time", "Y", "x")])
def test_axis_names_in_any_form(axes):
    names = axes.split(",") if "," in axes else axes
    assert Grid.of(3, axes=names).axes == "TYX"


@pytest.mark.parametrize("axes", ["abc", "XYZ", "ZY", ["-3", "-2", "-1"], ["y", "y", "x"]])
def test_axis_names_that_mean_nothing_are_replaced(axes):
    assert Grid.of(3, axes=axes).axes == "ZYX"


def test_plane_and_channels():
    grid = Grid.of(4, axes="ZCYX", scale=(2, 1, 0.5, 0.25), units=["um", "", "um", "um"])
    assert grid.without(1) == Grid.of(3, axes="ZYX", scale=(2, 0.5, 0.25), units="um")
    assert grid.without(-3) == grid.without(1)
    assert grid.without(None) is grid
    assert grid.plane().pixel_size == (0.5, 0.25)


def test_a_pixel_size_needs_one_unit():
    assert Grid.of(2, units=["um", "nm"]).pixel_size is None


@pytest.mark.parametrize(
    "options",
    [
        {"ndim": 1},
        {"ndim": 2, "scale": (1, 0)},
        {"ndim": 2, "scale": (1,)},
        {"ndim": 2, "units": []},
    ],
)
def test_bad_grids_are_one_sentence(options):
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        Grid.of(**options)


def test_a_grid_of_another_array_is_refused():
    with pytest.raises(InputError, match="3 axes"):
        grid_for(np.zeros((2, 3, 4)), Grid.of(2))
