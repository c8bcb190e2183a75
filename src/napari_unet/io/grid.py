"""Where the pixels of an array lie in space and time, and the names of units."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from napari_unet.core.errors import InputError

#: The axes that files of labels have names for, in the order of OME.
FILE_AXES = "TCZYX"
#: Axis names by number of axes, when nothing else is known: stacks are taken as depth.
_DEFAULT_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}

_MICROMETER = ("µm", "μm", "um", "micron", "microns", "micrometre", "micrometers", "\\u00b5m")
_SPELLINGS = {
    **dict.fromkeys(_MICROMETER, "micrometer"),
    **dict.fromkeys(("nm", "nanometre", "nanometers"), "nanometer"),
    **dict.fromkeys(("mm", "millimetre", "millimeters"), "millimeter"),
    **dict.fromkeys(("cm", "centimetre", "centimeters"), "centimeter"),
    **dict.fromkeys(("m", "metre", "meters"), "meter"),
    **dict.fromkeys(("pm", "picometre", "picometers"), "picometer"),
    **dict.fromkeys(("å", "a", "angstroms", "ångström"), "angstrom"),
    **dict.fromkeys(("in", "inches"), "inch"),
    **dict.fromkeys(("s", "sec", "seconds"), "second"),
    **dict.fromkeys(("ms", "msec", "milliseconds"), "millisecond"),
    **dict.fromkeys(("min", "minutes"), "minute"),
    **dict.fromkeys(("h", "hours"), "hour"),
    **dict.fromkeys(("pixel", "pixels", "px", "none", "dimensionless", "frame", "slice"), ""),
}
_SYMBOLS = {
    "micrometer": "µm",
    "nanometer": "nm",
    "millimeter": "mm",
    "centimeter": "cm",
    "meter": "m",
    "picometer": "pm",
    "angstrom": "Å",
    "inch": "in",
    "second": "s",
    "millisecond": "ms",
    "minute": "min",
    "hour": "h",
}

#: What can be compared: lengths in meters, and times in seconds.
_LENGTHS = {
    "picometer": 1e-12,
    "angstrom": 1e-10,
    "nanometer": 1e-9,
    "micrometer": 1e-6,
    "millimeter": 1e-3,
    "centimeter": 1e-2,
    "meter": 1.0,
    "inch": 0.0254,
}
_TIMES = {"millisecond": 1e-3, "second": 1.0, "minute": 60.0, "hour": 3600.0}


def unit_name(text: Any) -> str:
    """Return the full English name of a unit (``"micrometer"``), ``""`` for pixels or none.

    Unknown units stay as they are.
    """
    name = "" if text is None else str(text).strip()
    lower = name.lower()
    return _SPELLINGS.get(lower, lower if lower in _SYMBOLS else name)


def unit_symbol(name: str) -> str:
    """Return the symbol of a unit (``"µm"``); unknown ones stay as they are."""
    return _SYMBOLS.get(name, name)


def unit_ratio(unit: str, other: str) -> float | None:
    """Return how many of the ``other`` unit one unit is; None when nobody can tell."""
    if unit == other:
        return 1.0
    for known in (_LENGTHS, _TIMES):
        if unit in known and other in known:
            return known[unit] / known[other]
    return None


@dataclass(frozen=True)
class Grid:
    """One entry per axis of a label array.

    Attributes
    ----------
    axes
        Axis letters, such as ``"TZYX"``; the last two are Y and X.
    scale
        Size of a pixel along each axis.
    translate
        Position of the first pixel's centre.
    units
        Full names of units (see :func:`unit_name`), ``""`` where the scale is in pixels.
    """

    axes: str
    scale: tuple[float, ...]
    translate: tuple[float, ...]
    units: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.axes) == len(self.scale) == len(self.translate) == len(self.units):
            raise InputError("Axes, scale, translate and units must have the same length.")
        if not all(value > 0 for value in self.scale):
            raise InputError(f"Pixel sizes must be positive, not {self.scale}.")

    @classmethod
    def of(
        cls,
        ndim: int,
        *,
        axes: str | Sequence[str] | None = None,
        scale: Sequence[float] | None = None,
        translate: Sequence[float] | None = None,
        units: Sequence[Any] | str | None = None,
    ) -> Self:
        """Fill in what is not known.

        Parameters
        ----------
        ndim
            Number of axes of the array, at least 2.
        axes
            Axis names; anything but known letters (or words that begin with one, such as
            ``"time"``) is replaced by the usual order.
        scale, translate, units
            One value per axis, or one unit for all. Units may be spelled or be pint units.

        Raises
        ------
        InputError
            If lengths differ or the array has fewer than 2 axes.
        """
        if ndim < 2:
            raise InputError(f"Labels have at least 2 axes (Y and X), not {ndim}.")
        names = [unit_name(units)] * ndim if isinstance(units, str) else units
        return cls(
            axes=_axis_letters(ndim, axes),
            scale=tuple(float(value) for value in scale) if scale is not None else (1.0,) * ndim,
            translate=tuple(float(v) for v in translate)
            if translate is not None
            else (0.0,) * ndim,
            units=tuple(unit_name(n) for n in names) if names is not None else ("",) * ndim,
        )

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Height and width of a pixel in :attr:`unit`; None when they are not calibrated."""
        return (self.scale[-2], self.scale[-1]) if self.unit else None

    @property
    def unit(self) -> str:
        """Unit of Y and X; ``""`` when not calibrated or not the same for both."""
        return self.units[-1] if self.units[-1] == self.units[-2] else ""

    def plane(self) -> Self:
        """Return the grid of one plane: the last two axes."""
        return replace(
            self,
            axes=self.axes[-2:],
            scale=self.scale[-2:],
            translate=self.translate[-2:],
            units=self.units[-2:],
        )

    def without(self, axis: int | None) -> Self:
        """Return the grid without one axis (channels); None changes nothing."""
        if axis is None:
            return self
        keep = [i for i in range(self.ndim) if i != axis % self.ndim]
        return replace(
            self,
            axes="".join(self.axes[i] for i in keep),
            scale=tuple(self.scale[i] for i in keep),
            translate=tuple(self.translate[i] for i in keep),
            units=tuple(self.units[i] for i in keep),
        )


def grid_for(array: Any, grid: Grid | None) -> Grid:
    """Return ``grid``, checked against an array, or a grid of plain pixels.

    Raises
    ------
    InputError
        If the number of axes differs.
    """
    ndim = len(array.shape)
    if grid is None:
        return Grid.of(ndim)
    if grid.ndim != ndim:
        raise InputError(f"The labels have {ndim} axes, but positions are given for {grid.ndim}.")
    return grid


def common_pixel_size(grids: Iterable[Grid]) -> tuple[float, str] | None:
    """Return the side of a pixel and its unit; None when unknown, or not the same for all."""
    known = {(grid.pixel_size, grid.unit) for grid in grids}
    if len(known) != 1:
        return None
    size, unit = known.pop()
    return None if size is None else (math.sqrt(size[0] * size[1]), unit)


def named_axes(axes: str, known: str) -> str:
    """Give axes whose letters are not known the names that are free, where there are enough."""
    unnamed = [letter for letter in axes if letter not in known]
    free = [letter for letter in "ZTC" if letter not in axes]
    if len(unnamed) > len(free):
        return axes
    names = iter(sorted(free[: len(unnamed)], key="TCZ".index))
    return "".join(next(names) if letter in unnamed else letter for letter in axes)


def file_axes(axes: str) -> str:
    """Return the axes of labels under the names that files have: T, C, Z, Y and X.

    Raises
    ------
    InputError
        If there are more axes than that.
    """
    named = named_axes(axes, known=FILE_AXES)
    if not set(named) <= set(FILE_AXES):
        raise InputError(
            f"These labels have {len(axes)} axes and a file of masks at most {len(FILE_AXES)}: "
            "save them in parts."
        )
    return named


def _axis_letters(ndim: int, axes: str | Sequence[str] | None) -> str:
    usual = _DEFAULT_AXES.get(ndim, "JKLMNPQ"[-max(1, ndim - 5) :] + "TCZYX")
    letters = "".join(str(name)[:1].upper() for name in axes) if axes is not None else ""
    good = len(letters) == ndim and len(set(letters)) == ndim and set(letters) <= set("TCZYXSQI")
    # X before Y cannot be written: arrays are rows of pixels in every format here.
    return letters if good and letters.find("Y") < letters.find("X") else usual
