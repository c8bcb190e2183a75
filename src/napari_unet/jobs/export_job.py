"""Writing labels to files without holding up the viewer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_unet.core.errors import StoppedError, stop_if
from napari_unet.io.registry import Export, format_named


@dataclass(frozen=True)
class Written:
    """One file is complete."""

    path: Path


def export_job(
    export: Export,
    targets: Sequence[tuple[str, Path]],
    *,
    cancelled: Callable[[], bool] | None = None,
) -> Generator[Written, None, tuple[Path, ...]]:
    """Write the same labels in several formats.

    When the generator is closed and nobody asked to stop, it writes the other files all the same:
    who closes the viewer wants what was to be saved.

    Parameters
    ----------
    export
        The labels and what belongs to them; must not be changed meanwhile.
    targets
        Names of formats, and where to.
    cancelled
        Asked before and within each file; a file is never left half written.

    Returns
    -------
    tuple of Path
        What was written.
    """
    written = []
    heard = True
    for name, path in targets:
        try:
            stop_if(cancelled)
            format_named(name).write(path, replace(export, cancelled=cancelled))
        except StoppedError:
            break
        written.append(path)
        if heard:
            try:
                yield Written(path)
            except GeneratorExit:
                heard = False
    return tuple(written)
