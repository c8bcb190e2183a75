"""Errors a user can cause or mend: each message is one sentence that says what to do."""

from __future__ import annotations

from collections.abc import Callable


class UNetError(Exception):
    """Base of all errors this package raises on purpose."""


class InputError(UNetError):
    """An image, label array or option cannot be used as it is."""


class SettingsError(InputError):
    """A setting is outside its bounds."""


class AnnotationError(InputError):
    """The annotation cannot be trained on."""


class SizeError(InputError):
    """A spatial size does not fit the network."""


class ModelFileError(UNetError):
    """A model file is missing, truncated, foreign or newer than this program."""


class OutputError(UNetError):
    """A result cannot be written."""


class StoppedError(UNetError):
    """Somebody asked to stop; nothing is left half done."""

    def __init__(self) -> None:
        super().__init__("Stopped as asked.")


class DeviceMemoryError(UNetError):
    """Not even the smallest tile or batch fits into the device's memory."""


class TrainingError(UNetError):
    """Training cannot go on (for example the loss is no longer finite)."""


class PredictionError(UNetError):
    """The network could not be evaluated."""


def stop_if(cancelled: Callable[[], bool] | None) -> None:
    """Raise :class:`StoppedError` when somebody asked to stop; None never does."""
    if cancelled is not None and cancelled():
        raise StoppedError


def first_line(error: BaseException) -> str:
    """Return the first line of a foreign error's text, for a sentence of our own; else its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
