"""A value that one thread sets and another one looks at."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """The newest value only; calling it returns that value.

    Replacing one reference is a single step in Python, so no lock is needed and neither side ever
    waits. The value itself must not be changed afterwards: give it tuples or frozen dataclasses.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def __call__(self) -> T:
        """Return the value as it is now."""
        return self._value

    def set(self, value: T) -> None:
        """Replace the value."""
        self._value = value
