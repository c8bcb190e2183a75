"""How a job ended, and unexpected errors in plain words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from napari_unet.core.errors import UNetError


@dataclass(frozen=True)
class JobFinished:
    """The work came to its end, or stopped in order because it was asked to.

    Attributes
    ----------
    title
        What the job was called when it was started.
    result
        What the generator returned.
    cancelled
        Whether the job had been asked to stop.
    seconds
        Wall-clock time of the work.
    """

    title: str
    result: Any = field(default=None, repr=False, compare=False)
    cancelled: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class JobFailed:
    """The work raised an error; ``message`` is one sentence for the user."""

    title: str
    message: str
    error: BaseException = field(repr=False, compare=False)
    seconds: float = 0.0


def sentence_about(error: BaseException, title: str) -> str:
    """Return one sentence that tells the user what went wrong and, where possible, what to do.

    Our own errors already are such a sentence. Anything else is named together with the job, and
    the reader is sent to the log, which holds the traceback.
    """
    if isinstance(error, UNetError):
        return str(error)
    first_line = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    # torch.OutOfMemoryError by name: this module must not pay for importing torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"{title} needs more memory than is free; close other programs or use smaller tiles."
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        return f"{title} stopped: {error.strerror}{place}."
    detail = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    return f"{title} stopped because of an unexpected error ({detail}); the log has the details."
