"""From kept probabilities to objects again, with other thresholds."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_unet.core.events import LabelsChanged
from napari_unet.core.linking import DEFAULT_OVERLAP, link_planes
from napari_unet.core.settings import InstanceSettings
from napari_unet.jobs.image_source import Region


@dataclass(frozen=True)
class KeptProbabilities:
    """Foreground probability ``(y, x)`` of a region of one plane; 0 where nothing was predicted."""

    index: tuple[int, ...]
    region: Region
    values: npt.NDArray[np.float32] = field(repr=False, compare=False)

    def put(self, slices: Region, probabilities: npt.NDArray[np.float32]) -> None:
        """Store the class probabilities of one tile, given in coordinates of the plane."""
        from napari_unet.core.instances import foreground

        self.values[self._inside(slices)] = foreground(probabilities)

    def part(self, region: Region) -> KeptProbabilities | None:
        """Return what is kept of another region of the same plane; None when they do not meet."""
        cut = []
        for mine, wanted in zip(self.region, region, strict=True):
            start, stop = max(mine.start, wanted.start), min(mine.stop, wanted.stop)
            if stop <= start:
                return None
            cut.append(slice(start, stop))
        both = (cut[0], cut[1])
        return KeptProbabilities(self.index, both, self.values[self._inside(both)])

    def _inside(self, slices: Region) -> Region:
        rows, columns = self.region
        y, x = slices
        return (
            slice(y.start - rows.start, y.stop - rows.start),
            slice(x.start - columns.start, x.stop - columns.start),
        )


class ProbabilityStore:
    """Probabilities of the planes of one run, within a limit of memory.

    Parameters
    ----------
    limit
        Bytes that may be kept; planes beyond are not.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._kept: dict[tuple[int, ...], KeptProbabilities] = {}
        #: Planes that found no room.
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._kept)

    def planes(self) -> list[KeptProbabilities]:
        """Return everything that is kept."""
        return list(self._kept.values())

    def plane(self, index: tuple[int, ...]) -> KeptProbabilities | None:
        """Return what is kept of one plane."""
        return self._kept.get(index)

    def open(self, index: tuple[int, ...], region: Region) -> None:
        """Make room for a plane, if there is any."""
        shape = tuple(part.stop - part.start for part in region)
        needed = 4 * int(np.prod(shape, dtype=np.int64))
        if self._used + needed > self._limit:
            self.left_out += 1
            return
        self._used += needed
        self._kept[index] = KeptProbabilities(index, region, np.zeros(shape, np.float32))

    def put(
        self, index: tuple[int, ...], slices: Region, probabilities: npt.NDArray[np.float32]
    ) -> None:
        """Store one tile of a plane that found room."""
        kept = self._kept.get(index)
        if kept is not None:
            kept.put(slices, probabilities)


@dataclass(frozen=True)
class Link:
    """Objects of neighbouring planes get one number: along which axis, from which overlap on."""

    shape: tuple[int, ...]
    axis: int
    overlap: float = DEFAULT_OVERLAP


@dataclass(frozen=True)
class ObjectsFound:
    """The result of a job in numbers."""

    planes: int
    objects: int

    def __str__(self) -> str:
        objects = f"{self.objects:,} object{'s' if self.objects != 1 else ''}"
        return f"{objects} in {self.planes:,} planes" if self.planes > 1 else objects


@dataclass(frozen=True)
class ClassesFound:
    """The result of a job that finds classes: names and their shares of what was segmented."""

    shares: tuple[tuple[str, float], ...]

    @classmethod
    def counted(cls, names: Sequence[str], pixels: npt.NDArray[np.integer]) -> ClassesFound:
        """Return the shares of classes from how many pixels each has."""
        shares = pixels / max(1, int(pixels.sum()))
        return cls(tuple(zip(names, shares.tolist(), strict=True)))

    def __str__(self) -> str:
        return ", ".join(f"{share:.0%} {name}" for name, share in self.shares)


@dataclass(frozen=True)
class PlanesLinked:
    """Objects carry one number through the stack: the whole label array."""

    labels: npt.NDArray[np.int32] = field(repr=False, compare=False)


def instance_job(
    kept: Sequence[KeptProbabilities],
    settings: InstanceSettings | Callable[[tuple[int, ...]], InstanceSettings],
    *,
    link: Link | None = None,
    first: int = 0,
    cancelled: Callable[[], bool] | None = None,
) -> Generator[LabelsChanged | PlanesLinked, None, ObjectsFound]:
    """Turn kept probabilities into objects, plane by plane.

    Parameters
    ----------
    kept
        Probabilities of planes or parts of planes.
    settings
        The thresholds, or a function that returns those of the plane at a position.
    link
        When given (and ``kept`` holds every plane), objects are linked at the end.
    first
        Numbers begin after this one.
    cancelled
        Asked before each plane.

    Yields
    ------
    LabelsChanged
        All labels of the region that is kept of one plane.
    PlanesLinked
        At the end, when asked for and not cancelled.

    Returns
    -------
    ObjectsFound
        Numbers are unique over all planes, in their order.
    """
    from napari_unet.core.instances import label_instances

    stack = None if link is None else np.zeros(link.shape, np.int32)
    used = first
    for done, plane in enumerate(sorted(kept, key=lambda one: one.index)):
        if cancelled is not None and cancelled():
            return ObjectsFound(done, used - first)
        chosen = settings(plane.index) if callable(settings) else settings
        labels = label_instances(plane.values, chosen)
        highest = int(labels.max(initial=0))
        if used:
            labels[labels > 0] += used
        used += highest
        if stack is not None:
            target = stack[plane.index] if plane.index else stack
            target[plane.region] = labels
        yield LabelsChanged(plane.region, labels, plane.index)
    if stack is not None and link is not None:
        linked = link_planes(stack, axis=link.axis, overlap=link.overlap, cancelled=cancelled)
        if not (cancelled is not None and cancelled()):
            used = first + int(linked.max(initial=0))
            yield PlanesLinked(linked)
    return ObjectsFound(len(kept), used - first)
