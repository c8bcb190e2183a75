"""The clock that draws what moves while work goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from napari_unet.widgets import _frames
from napari_unet.widgets._frames import Frames


class Curve:
    """Something that is drawn; each drawing keeps the window busy for a while."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.times: list[float] = []
        self._seconds = seconds

    def draw(self) -> None:
        self.times.append(time.perf_counter())
        time.sleep(self._seconds)


@pytest.fixture
def frames(qtbot: Any) -> Iterator[Frames]:
    frames = Frames()
    yield frames
    frames.stop()


def test_many_changes_are_one_frame_and_the_first_comes_at_once(frames: Frames, qtbot: Any) -> None:
    one, other = Curve(), Curve()
    for _ in range(10):
        frames.request(one.draw)
        frames.request(other.draw)
    qtbot.waitUntil(lambda: bool(one.times), timeout=2000)
    assert len(one.times) == len(other.times) == 1
    frames.request(one.draw)
    qtbot.waitUntil(lambda: len(one.times) == 2, timeout=2000)
    assert one.times[1] - one.times[0] > 0.9 * _frames.SHORTEST
    qtbot.wait(300)
    assert (len(one.times), len(other.times)) == (2, 1)  # nothing changed, nothing is drawn


@pytest.mark.timed
def test_slow_frames_are_rare(frames: Frames, qtbot: Any) -> None:
    slow = Curve(0.06)
    end = time.perf_counter() + 3
    while time.perf_counter() < end:
        frames.request(slow.draw)
        qtbot.wait(5)
    pauses = [b - a for a, b in zip(slow.times, slow.times[1:], strict=False)]
    assert min(pauses) > 0.9 * _frames.LONGEST  # 60 ms are more than their share of a second
    assert max(pauses) < 2 * _frames.LONGEST


@pytest.mark.timed
def test_a_first_answer_does_not_wait_for_its_turn(frames: Frames, qtbot: Any) -> None:
    slow, first = Curve(0.06), Curve()
    frames.request(slow.draw)
    qtbot.waitUntil(lambda: bool(slow.times), timeout=2000)
    qtbot.wait(100)  # the pause after a slow frame has begun
    asked = time.perf_counter()
    frames.request(first.draw, at_once=True)
    qtbot.waitUntil(lambda: bool(first.times), timeout=2000)
    assert first.times[0] - asked < 0.3


def test_what_is_forgotten_or_gone_is_not_drawn(frames: Frames, qtbot: Any) -> None:
    kept, forgotten, gone = Curve(), Curve(), Curve()
    for curve in (kept, forgotten, gone):
        frames.request(curve.draw)
    frames.forget(forgotten.draw)
    times = gone.times
    del curve, gone
    qtbot.waitUntil(lambda: bool(kept.times), timeout=2000)
    assert not forgotten.times and not times


def test_an_error_does_not_stop_the_clock(frames: Frames, qtbot: Any) -> None:
    class Broken:
        def draw(self) -> None:
            raise ValueError("no picture")

    broken, curve = Broken(), Curve()
    with qtbot.captureExceptions() as errors:
        frames.request(broken.draw)
        qtbot.wait(100)
    assert [str(value) for _, value, _ in errors] == ["no picture"]
    frames.request(curve.draw)
    qtbot.waitUntil(lambda: bool(curve.times), timeout=2000)
