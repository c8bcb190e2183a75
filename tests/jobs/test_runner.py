"""One job with and without a thread: events, cancelling, errors, back pressure, closing."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from napari_unet.core.errors import InputError, UNetError
from napari_unet.jobs.cancellation import CancelToken
from napari_unet.jobs.events import JobFailed, JobFinished, sentence_about
from napari_unet.jobs.runner import Job, JobRunner, run_inline


def count(n: int, *, cancelled: Callable[[], bool] | None = None) -> Iterator[int]:
    assert cancelled is not None
    for i in range(n):
        if cancelled():
            return "stopped"
        yield i
    return "done"


def endless(*, cancelled: Callable[[], bool] | None = None) -> Iterator[int]:
    assert cancelled is not None
    i = 0
    while not cancelled():
        time.sleep(0.001)
        yield i
        i += 1
    return i


def fail(error: BaseException, *, cancelled: Callable[[], bool] | None = None) -> Iterator[int]:
    yield 1
    raise error


@pytest.fixture
def runner(qtbot: Any) -> Iterator[JobRunner]:
    runner = JobRunner()
    yield runner
    assert runner.shutdown()


def wait_for_end(qtbot: Any, job: Job) -> Any:
    qtbot.waitUntil(lambda: not job.running, timeout=10_000)
    return job.outcome


def test_inline_gives_events_and_result() -> None:
    seen: list[int] = []
    outcome = run_inline("Counting", count, 5, on_event=seen.append)
    assert seen == [0, 1, 2, 3, 4]
    assert isinstance(outcome, JobFinished)
    assert outcome.result == "done" and not outcome.cancelled


def test_inline_stops_in_order() -> None:
    token = CancelToken()
    seen: list[int] = []

    def listen(i: int) -> None:
        seen.append(i)
        if i == 2:
            token.cancel()

    outcome = run_inline("Counting", count, 100, on_event=listen, token=token)
    assert seen == [0, 1, 2]
    assert isinstance(outcome, JobFinished)
    assert outcome.cancelled and outcome.result == "stopped"


def test_thread_gives_the_same_events_in_order(qtbot: Any, runner: JobRunner) -> None:
    seen: list[int] = []
    threads: set[int] = set()

    def listen(i: int) -> None:
        seen.append(i)
        threads.add(threading.get_ident())

    job = runner.start("count", "Counting", count, 500, on_event=listen, uses_torch=False)
    assert runner.running("count") is job and runner.busy
    outcome = wait_for_end(qtbot, job)
    assert seen == list(range(500))
    assert threads == {threading.get_ident()}
    assert isinstance(outcome, JobFinished) and outcome.result == "done"
    assert not runner.busy


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), ValueError(), MemoryError()])
def test_any_error_in_the_generator_ends_the_job_with_one_sentence(
    qtbot: Any, runner: JobRunner, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """superqt alone would lose the RuntimeError and leave the job running."""
    failures: list[JobFailed] = []
    with caplog.at_level(logging.ERROR):
        job = runner.start(
            "fail", "Training", fail, error, on_failed=failures.append, uses_torch=False
        )
        wait_for_end(qtbot, job)
    assert len(failures) == 1 and failures[0].error is error
    assert failures[0].message.startswith("Training ") and failures[0].message.endswith(".")
    assert "Traceback" in caplog.text
    assert not runner.busy


def test_a_listener_may_start_the_next_job(qtbot: Any, runner: JobRunner) -> None:
    second: list[Job] = []

    def again(_outcome: JobFinished) -> None:
        second.append(runner.start("count", "Counting", count, 3, uses_torch=False))

    runner.start("count", "Counting", count, 3, on_finished=again, uses_torch=False)
    qtbot.waitUntil(lambda: bool(second))
    assert isinstance(wait_for_end(qtbot, second[0]), JobFinished)


def test_two_jobs_of_one_key_are_refused(qtbot: Any, runner: JobRunner) -> None:
    job = runner.start("x", "Working", endless, uses_torch=False)
    with pytest.raises(RuntimeError, match="Working is still running"):
        runner.start("x", "Working", endless, uses_torch=False)
    job.cancel()
    outcome = wait_for_end(qtbot, job)
    assert outcome.cancelled


def test_a_job_does_not_wait_for_others_where_cores_are_few(qtbot: Any, runner: JobRunner) -> None:
    """A stroke's weight map is not held up by training and segmenting on a laptop."""
    from qtpy.QtCore import QThreadPool

    pool = QThreadPool.globalInstance()
    cores = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    try:
        for key in ("train", "segment"):
            runner.start(key, "Working", endless, uses_torch=False)
        job = runner.start("live", "Counting", count, 3, uses_torch=False)
        outcome = wait_for_end(qtbot, job)
        assert isinstance(outcome, JobFinished) and outcome.result == "done"
        assert runner.running("train") is not None
        runner.cancel()
        qtbot.waitUntil(lambda: not runner.busy)
        assert pool.waitForDone(1000)
        assert pool.activeThreadCount() == 0
    finally:
        pool.setMaxThreadCount(cores)


def test_cancel_keeps_the_last_events(qtbot: Any, runner: JobRunner) -> None:
    def with_farewell(*, cancelled: Callable[[], bool] | None = None) -> Iterator[str]:
        assert cancelled is not None
        while not cancelled():
            time.sleep(0.001)
        for _ in range(50):
            yield "more"
        yield "farewell"

    seen: list[str] = []
    job = runner.start("x", "Working", with_farewell, on_event=seen.append, uses_torch=False)
    runner.cancel("x")
    wait_for_end(qtbot, job)
    assert len(seen) == 51 and seen[-1] == "farewell"


def test_worker_waits_while_the_viewer_is_busy(qtbot: Any, runner: JobRunner) -> None:
    """Back pressure: not more than `capacity` events exist while nobody takes them."""
    made: list[int] = []

    def produce(*, cancelled: Callable[[], bool] | None = None) -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    seen: list[int] = []
    job = runner.start("x", "W", produce, capacity=4, on_event=seen.append, uses_torch=False)
    qtbot.waitUntil(lambda: bool(made))
    already = len(seen)
    time.sleep(0.2)  # the main thread does not look at events here
    assert len(made) <= already + 4 + 2
    wait_for_end(qtbot, job)
    assert seen == list(range(100))


@pytest.mark.timed
def test_a_flood_of_events_leaves_time_for_the_viewer(qtbot: Any, runner: JobRunner) -> None:
    from qtpy.QtCore import QTimer

    ticks: list[float] = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start(5)
    job = runner.start(
        "x", "W", count, 200, on_event=lambda _i: time.sleep(0.002), uses_torch=False
    )
    wait_for_end(qtbot, job)
    timer.stop()
    assert len(ticks) > 15  # 0.4 s of listeners' work


def test_a_listener_that_lets_qt_work_gets_one_event_at_a_time_and_one_end(
    qtbot: Any, runner: JobRunner
) -> None:
    """A dialog or a progress bar of napari serves Qt's events while a listener is at work."""
    seen: list[str] = []
    ends: list[JobFinished] = []

    def listen(i: int) -> None:
        seen.append(f"{i} begins")
        qtbot.wait(20)
        seen.append(f"{i} is done")

    job = runner.start(
        "x", "W", count, 5, on_event=listen, on_finished=ends.append, uses_torch=False
    )
    wait_for_end(qtbot, job)
    qtbot.wait(50)
    assert seen == [f"{i} {what}" for i in range(5) for what in ("begins", "is done")]
    assert len(ends) == 1


@pytest.mark.timed
def test_shutdown_lets_go_of_a_worker_that_waits(qtbot: Any) -> None:
    runner = JobRunner()
    seen: list[int] = []
    runner.start("x", "W", endless, capacity=1, on_event=seen.append, uses_torch=False)
    time.sleep(0.1)
    start = time.perf_counter()
    assert runner.shutdown()
    assert time.perf_counter() - start < 1.0
    before = len(seen)
    qtbot.wait(50)
    assert len(seen) == before


@pytest.mark.timed
def test_shutdown_does_not_wait_for_ever(qtbot: Any, caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    def stubborn(*, cancelled: Callable[[], bool] | None = None) -> Iterator[int]:
        release.wait(10)
        yield 1

    runner = JobRunner()
    job = runner.start("x", "W", stubborn, uses_torch=False)
    qtbot.wait(20)
    start = time.perf_counter()
    with caplog.at_level(logging.WARNING):
        assert not runner.shutdown(0.2)
    assert time.perf_counter() - start < 1.0
    assert "did not stop" in caplog.text
    release.set()
    assert job.wait(5)
    qtbot.wait(50)


def test_shutdown_lets_work_end_that_the_user_would_miss(qtbot: Any) -> None:
    release = threading.Event()
    stopped: list[bool] = []

    def saves(*, cancelled: Callable[[], bool]) -> Iterator[int]:
        release.wait(10)
        stopped.append(cancelled())
        yield 1

    runner = JobRunner()
    job = runner.start("x", "W", saves, completes=True, uses_torch=False)
    assert runner.shutdown()
    release.set()
    assert job.wait(5) and stopped == [False]
    qtbot.wait(50)


def test_generator_is_closed_when_nobody_listens(qtbot: Any) -> None:
    tidied = threading.Event()

    def tidy(*, cancelled: Callable[[], bool] | None = None) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            tidied.set()

    runner = JobRunner()
    runner.start("x", "W", tidy, capacity=1, uses_torch=False)
    qtbot.wait(50)
    assert runner.shutdown()
    assert tidied.is_set()


def test_warnings_of_a_worker_reach_the_log(
    qtbot: Any, runner: JobRunner, caplog: pytest.LogCaptureFixture
) -> None:
    def warn(*, cancelled: Callable[[], bool] | None = None) -> Iterator[int]:
        warnings.warn("look out", stacklevel=1)
        yield 1

    with caplog.at_level(logging.WARNING):
        job = runner.start("x", "W", warn, uses_torch=False)
        wait_for_end(qtbot, job)
        qtbot.wait(20)
    assert "look out" in caplog.text


def test_torch_leaves_a_core_to_the_viewer(qtbot: Any, runner: JobRunner) -> None:
    import os

    import torch

    def threads(*, cancelled: Callable[[], bool] | None = None) -> Iterator[int]:
        yield torch.get_num_threads()

    before = torch.get_num_threads()
    seen: list[int] = []
    job = runner.start("x", "W", threads, on_event=seen.append)
    wait_for_end(qtbot, job)
    assert seen == [max(1, (os.cpu_count() or 2) - 1)]
    assert torch.get_num_threads() in (before, seen[0])


def test_sentences() -> None:
    assert sentence_about(InputError("Choose an image."), "Training") == "Choose an image."
    assert issubclass(InputError, UNetError)
    text = sentence_about(OSError(28, "No space left on device", "model.safetensors"), "Saving")
    assert text == "Saving stopped: No space left on device (model.safetensors)."
    text = sentence_about(RuntimeError("a\nb\nc"), "Training")
    assert "\n" not in text and "RuntimeError: a" in text
