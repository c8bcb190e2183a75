"""What the command line shows and hears: progress bars, messages, Ctrl+C."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tqdm import tqdm

PROGRAM = "napari-unet"
OK, BAD_INPUT, INTERRUPTED = 0, 2, 130
#: Into how many steps a progress bar divides one piece of work.
STEPS = 1000
#: A progress bar with the time it took and will take; steps mean nothing to the reader.
TIMED = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


def prepare_output() -> None:
    """Let nothing that is printed end a run: a name in other letters, or a closed output.

    Where output goes to a file or another program, Windows and bare systems know a few letters
    only; a file name in others is then written with backslashes. Python has no stream at all for
    an output that was closed.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str = "") -> None:
    """Write a line of the result to standard output, as long as somebody reads it."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # `napari-unet segment ... | head`: the files are wanted all the same.
        with Path(os.devnull).open("w", encoding="utf-8") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def note(text: str) -> None:
    """Write a remark to standard error, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(f"{PROGRAM}: {text}", file=sys.stderr)


def fail(text: str) -> int:
    """Write the one sentence that says what went wrong; return the exit status."""
    sys.stderr.write(f"{PROGRAM}: {text}\n")
    return BAD_INPUT


def bar(total: float, unit: str, description: str, **options: Any) -> tqdm[Any]:
    """Return a progress bar on standard error; in a log file it writes a line only now and then."""
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(
        total=total,
        unit=unit,
        desc=description,
        file=sys.stderr,
        mininterval=interval,
        dynamic_ncols=True,
        **options,
    )


def move(line: tqdm[Any], position: float) -> None:
    """Move a progress bar forward to a position; whole steps, so that nothing adds up beyond it."""
    line.update(max(0, min(int(position), int(line.total)) - line.n))


class Interruptible:
    """Turns the first Ctrl+C into a request, so that what is done can be kept.

    A second Ctrl+C ends the program at once. In a thread, where signals do not arrive, it only
    stays silent.

    Parameters
    ----------
    promise
        What the user is told about the work so far.
    """

    def __init__(self, promise: str = "what is done is kept") -> None:
        self._promise = promise
        self._asked = threading.Event()
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def __call__(self) -> bool:
        """Tell whether the user pressed Ctrl+C."""
        return self._asked.is_set()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()
        sys.stderr.write(f"\nStopping; {self._promise} (press Ctrl+C again to end at once).\n")
