"""The bounded line of events."""

from __future__ import annotations

import threading

import pytest

from napari_unet.jobs.channel import EventChannel


def test_order_is_kept_and_nothing_is_lost() -> None:
    channel = EventChannel(3)
    got: list[int] = []
    writer = threading.Thread(target=lambda: [channel.put(i) for i in range(100)])
    writer.start()
    while len(got) < 100:
        assert len(channel) <= 3
        got += channel.take()
    writer.join()
    assert got == list(range(100))


def test_none_is_an_event_too() -> None:
    channel = EventChannel(1)
    channel.put(None)
    assert channel.take() == (None,)
    assert channel.take() == ()


def test_close_lets_a_waiting_writer_go() -> None:
    channel = EventChannel(1)
    channel.put(0)
    results: list[bool] = []
    writer = threading.Thread(target=lambda: results.append(channel.put(1)))
    writer.start()
    channel.close()
    writer.join(5)
    assert results == [False] and len(channel) == 0
    assert not channel.put(2)


def test_reader_is_called_once_per_round() -> None:
    channel = EventChannel(1)
    assert channel.should_call_reader()
    assert not channel.should_call_reader()
    channel.begin_reading()
    assert channel.should_call_reader()


def test_capacity_is_checked() -> None:
    with pytest.raises(ValueError, match="room"):
        EventChannel(0)
