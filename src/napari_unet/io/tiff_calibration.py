"""Pixel size, position and units of TIFF files, in and out."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from napari_unet.core.errors import InputError
from napari_unet.io.grid import Grid, unit_name, unit_ratio, unit_symbol

_CENTIMETER = 3
#: Pixel sizes that a ratio of two 32-bit numbers holds with all the digits that matter.
_SMALLEST, _LARGEST = 2.0**-31, 2.0**31
#: Where a size is beyond, the first of these in which it is not; ImageJ knows them all.
_OTHER_UNITS = ("micrometer", "nanometer", "millimeter", "meter")


@dataclass
class Calibration:
    """What a file says about its axes, by axis letter; axes without a word are missing."""

    scale: dict[str, float] = field(default_factory=dict)
    translate: dict[str, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)

    def put(self, axis: str, scale: Any, unit: str) -> None:
        """Take a pixel size over when it makes sense."""
        size = _number(scale)
        if size is not None and size > 0:
            self.scale[axis] = size
            self.units[axis] = unit

    def place(self, axis: str, position: Any, factor: float = 1.0) -> None:
        """Take the position of the first pixel, times a factor, over when it makes sense."""
        start = _number(position)
        if start is not None:
            self.translate[axis] = start * factor


def _number(value: Any) -> float | None:
    """Return a finite number, or None: a bad entry is no reason to refuse the image."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def calibration(tiff: Any) -> Calibration:
    """Read the calibration of an open ``tifffile.TiffFile``: OME, ImageJ, Zeiss LSM or plain tags.

    A plain TIFF's resolution is believed only when it is in centimetres: per inch it is the
    printing resolution that painting programs invent.
    """
    if tiff.is_ome:
        return _from_ome(tiff.ome_metadata)
    page = tiff.pages.first
    if tiff.is_imagej:
        return _from_imagej(tiff.imagej_metadata or {}, _pixel_sizes(page))
    if tiff.is_lsm:
        return _from_lsm(tiff.lsm_metadata or {})
    found = Calibration()
    tag = page.tags.get("ResolutionUnit")
    if tag is not None and int(tag.value) == _CENTIMETER:
        for axis, size in _pixel_sizes(page).items():
            found.put(axis, size * 10_000, "micrometer")
    return found


def imagej_metadata(grid: Grid) -> tuple[dict[str, Any], tuple[float, float]]:
    """Return ImageJ's entries and the resolution tags (pixels per unit, X first) for a grid.

    ImageJ holds one unit for X, Y and Z, seconds for T, and an origin in pixels.

    Raises
    ------
    InputError
        If the file cannot hold the pixel size, in whatever unit.
    """
    grid = _in_a_unit_that_fits(grid)
    at = {letter: i for i, letter in enumerate(grid.axes)}
    unit = grid.unit
    entries: dict[str, Any] = {"unit": "micron" if unit == "micrometer" else unit or "pixel"}
    if "Z" in at:
        ratio = unit_ratio(grid.units[at["Z"]], unit)
        entries["spacing"] = grid.scale[at["Z"]] * ratio if ratio is not None else 1.0
    seconds = unit_ratio(grid.units[at["T"]], "second") if "T" in at else None
    if seconds is not None:
        entries["finterval"] = grid.scale[at["T"]] * seconds
        entries["tunit"] = "sec"
    for letter in "XYZ":
        if letter in at and grid.translate[at[letter]]:
            origin = -grid.translate[at[letter]] / grid.scale[at[letter]]
            entries[f"{letter.lower()}origin"] = origin
    return entries, (1 / grid.scale[-1], 1 / grid.scale[-2])


def _in_a_unit_that_fits(grid: Grid) -> Grid:
    """Return the grid, its planes in another unit where their pixel size is too small or large."""
    sizes = grid.scale[-2:]
    for unit in (grid.unit, *_OTHER_UNITS):
        ratio = unit_ratio(grid.unit, unit)
        if ratio is None or not all(_SMALLEST <= size * ratio <= _LARGEST for size in sizes):
            continue
        return replace(
            grid,
            scale=(*grid.scale[:-2], *(size * ratio for size in sizes)),
            translate=(*grid.translate[:-2], *(at * ratio for at in grid.translate[-2:])),
            units=(*grid.units[:-2], *((unit, unit) if grid.unit else grid.units[-2:])),
        )
    size = f"{sizes[0]:g} x {sizes[1]:g} {unit_symbol(grid.unit)}".strip()
    raise InputError(
        f"A TIFF file cannot hold a pixel size of {size}; correct the pixel size of the image, or "
        "choose OME-Zarr."
    )


def _pixel_sizes(page: Any) -> dict[str, float]:
    """Return width and height of a pixel by the resolution tags, in their unit."""
    sizes = {}
    for axis, name in (("X", "XResolution"), ("Y", "YResolution")):
        tag = page.tags.get(name)
        if tag is None:
            continue
        numerator, denominator = tag.value
        if numerator and denominator:
            sizes[axis] = denominator / numerator
    return sizes


def _from_imagej(entries: Mapping[str, Any], sizes: Mapping[str, float]) -> Calibration:
    found = Calibration()
    unit = unit_name(entries.get("unit"))
    if unit or "unit" in entries:
        for axis, size in sizes.items():
            found.put(axis, size, unit)
        if "spacing" in entries:
            spacing = _number(entries["spacing"])
            found.put("Z", abs(spacing or 0.0), unit)
    if "finterval" in entries:
        time = unit_name(entries.get("tunit"))
        known = unit_ratio(time, "second") is not None
        found.put("T", entries["finterval"], time if known else "second")
    for axis in "XYZ":
        found.place(axis, entries.get(f"{axis.lower()}origin"), -found.scale.get(axis, 1.0))
    return found


def _from_lsm(entries: Mapping[str, Any]) -> Calibration:
    """Read the header of a Zeiss LSM file, whose lengths are in meters."""
    found = Calibration()
    for axis in "XYZ":
        size = _number(entries.get(f"VoxelSize{axis}"))
        found.put(axis, (size or 0.0) * 1e6, "micrometer")
        found.place(axis, entries.get(f"Origin{axis}"), 1e6)
    found.put("T", entries.get("TimeIntervall"), "second")  # spelt so by Zeiss
    return found


def _from_ome(text: str | None) -> Calibration:
    found = Calibration()
    try:
        root = ET.fromstring(text or "")
    except ET.ParseError:
        return found
    pixels = next((node for node in root.iter() if node.tag.endswith("}Pixels")), None)
    if pixels is None:
        return found
    for axis in "XYZ":
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
        found.put(axis, pixels.get(f"PhysicalSize{axis}"), unit_name(unit))
    found.put("T", pixels.get("TimeIncrement"), unit_name(pixels.get("TimeIncrementUnit", "s")))
    plane = next((node for node in pixels if node.tag.endswith("}Plane")), None)
    for axis in "XYZ":
        position = plane.get(f"Position{axis}") if plane is not None else None
        if plane is not None and position is not None:
            # Some microscopes tell the place of the stage in meters and the pixel in micrometers.
            unit = unit_name(plane.get(f"Position{axis}Unit"))
            ratio = unit_ratio(unit, found.units.get(axis, ""))
            found.place(axis, position, 1.0 if ratio is None else ratio)
    return found
