"""Run one generator of events in a thread and hand its events to the main thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from qtpy.QtCore import QObject, QThreadPool, QTimer, Signal
from superqt.utils import create_worker

from napari_unet.core.errors import UNetError
from napari_unet.jobs.cancellation import CancelToken
from napari_unet.jobs.channel import EventChannel
from napari_unet.jobs.events import JobFailed, JobFinished, sentence_about

logger = logging.getLogger(__name__)

#: Work: called with ``cancelled=token`` and the caller's arguments, it yields events.
Work = Callable[..., Generator[Any, None, Any]]

#: Longest time, in seconds, that the main thread spends on events before it lets Qt draw.
EVENT_BUDGET = 0.008
#: Pause after that, in milliseconds, in which Qt draws and takes input.
EVENT_PAUSE_MS = 8
#: Longest time, in seconds, that closing a viewer waits for its jobs.
CLOSING_TIME = 2.0


def drive(
    title: str,
    work: Work,
    token: CancelToken,
    deliver: Callable[[Any], bool],
    *args: Any,
    **kwargs: Any,
) -> JobFinished | JobFailed:
    """Run ``work`` to its end in the calling thread.

    Parameters
    ----------
    title
        What the job is called in messages ("Training").
    work
        Generator function; gets ``args``, ``kwargs`` and ``cancelled=token``.
    token
        Looked at by the work itself, which then ends in order.
    deliver
        Takes one event; False means that nobody listens any more, and the generator is closed.

    Returns
    -------
    JobFinished or JobFailed
        Every ``Exception`` is caught here: superqt swallows a ``RuntimeError`` (torch's favourite)
        and would leave the job running for ever. The traceback goes to the log.
    """
    start = time.perf_counter()
    result = None
    try:
        events = work(*args, cancelled=token, **kwargs)
        try:
            while True:
                if not deliver(next(events)):
                    events.close()
                    break
        except StopIteration as stop:
            result = stop.value
    except Exception as error:
        # What the user did wrong is told in the panel; a traceback is for what went wrong here.
        level = logging.INFO if isinstance(error, UNetError) else logging.ERROR
        logger.log(level, "%s failed", title, exc_info=True)
        message = sentence_about(error, title)
        return JobFailed(title, message, error, time.perf_counter() - start)
    return JobFinished(title, result, token(), time.perf_counter() - start)


def run_inline(
    title: str,
    work: Work,
    *args: Any,
    on_event: Callable[[Any], Any] | None = None,
    token: CancelToken | None = None,
    **kwargs: Any,
) -> JobFinished | JobFailed:
    """Run a job without a thread, for tests and scripts; ``on_event`` gets every event."""

    def deliver(event: Any) -> bool:
        if on_event is not None:
            on_event(event)
        return True

    return drive(title, work, token or CancelToken(), deliver, *args, **kwargs)


def leave_a_core_free() -> None:
    """Let torch use all cores but one in this thread, so that the viewer stays quick.

    PyTorch keeps the number of threads per calling thread; the main thread is not affected.
    """
    import torch

    from napari_unet.core.device import cpu_threads

    torch.set_num_threads(cpu_threads())


class Job(QObject):
    """One run of one piece of work; all signals arrive on the main thread.

    Signals
    -------
    yielded
        What the generator yielded, in order and without loss.
    finished, failed
        :class:`JobFinished` or :class:`JobFailed`: exactly one of the two, after all events.
    ended
        Either of them, last of all.
    """

    yielded = Signal(object)
    finished = Signal(object)
    failed = Signal(object)
    ended = Signal(object)
    _wake = Signal()

    def __init__(
        self,
        title: str,
        *,
        capacity: int = 8,
        completes: bool = False,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.title = title
        #: Whether closing the viewer lets the work end on its own.
        self.completes = completes
        self.token = CancelToken()
        self.outcome: JobFinished | JobFailed | None = None
        self._channel = EventChannel(capacity)
        self._result: JobFinished | JobFailed | None = None
        self._thread_done = threading.Event()
        self._thread_left = False
        self._pausing = False
        self._handing_over = False
        self._wake.connect(self._hand_over)

    @property
    def running(self) -> bool:
        """True until the outcome was announced."""
        return self.outcome is None

    def start(self, work: Work, *args: Any, uses_torch: bool = True, **kwargs: Any) -> None:
        """Start the thread; see :meth:`JobRunner.start`."""

        def in_thread() -> None:
            # Qt runs as many threads as there are cores. A job is not counted, or a long one would
            # keep the others waiting: on two cores a third, on one core the second.
            pool: Any = QThreadPool.globalInstance()
            pool.releaseThread()
            try:
                if uses_torch:
                    leave_a_core_free()
                self._result = drive(self.title, work, self.token, self._deliver, *args, **kwargs)
            finally:
                pool.reserveThread()
                self._thread_done.set()

        worker: Any = create_worker(in_thread)
        # Only superqt's own signal is sent after the work: nothing touches this object then.
        worker.finished.connect(self._thread_has_left)
        # superqt redirects warnings while a worker runs; without this they would be lost.
        worker.warned.connect(_log_warning)
        worker.start()

    def cancel(self) -> None:
        """Ask the work to stop in order; its last events and its outcome still arrive."""
        self.token.cancel()

    def abandon(self) -> None:
        """Listen no more (the viewer is closing), and ask the work to stop if it may."""
        if not self.completes:
            self.token.cancel()
        self._channel.close()

    def wait(self, seconds: float) -> bool:
        """Block until the thread has left the work; False when it still runs after ``seconds``."""
        return self._thread_done.wait(seconds)

    def _deliver(self, event: Any) -> bool:
        accepted = self._channel.put(event)
        if accepted:
            self._call_main_thread()
        return accepted

    def _call_main_thread(self) -> None:
        if not self._channel.should_call_reader():
            return
        try:
            self._wake.emit()
        except RuntimeError:  # the viewer, and this object's Qt half with it, is gone
            self._channel.close()

    def _thread_has_left(self) -> None:
        self._thread_left = True
        self._hand_over()

    def _hand_over(self) -> None:
        """Emit what waits for a few milliseconds, then pause so that drawing and input go on.

        The pause matters: Qt serves queued signals before timers and input, so a worker that
        called at once after each event would starve the viewer. During the pause it does not
        call, because the round of reading is still open.

        A listener may let Qt work (a dialog, ``processEvents``), which calls this again: the next
        event waits until the one before was taken in.
        """
        if not self.running or self._pausing or self._handing_over:
            return
        self._handing_over = True
        try:
            deadline = time.perf_counter() + EVENT_BUDGET
            while time.perf_counter() < deadline:
                item = self._channel.take()
                if not item:
                    break
                self.yielded.emit(item[0])
        finally:
            self._handing_over = False
        if self._thread_left and not len(self._channel):
            self._announce()
            return
        self._pausing = True
        QTimer.singleShot(EVENT_PAUSE_MS, self._resume)

    def _resume(self) -> None:
        self._pausing = False
        if len(self._channel) or self._thread_left:
            self._hand_over()
            return
        self._channel.begin_reading()
        # An event that came in between found the round open and did not call.
        if len(self._channel) and self._channel.should_call_reader():
            self._hand_over()

    def _announce(self) -> None:
        outcome = self._result
        if outcome is None:  # something that is not an Exception ended the thread
            error = RuntimeError("the worker thread ended early")
            outcome = JobFailed(self.title, sentence_about(error, self.title), error)
        self.outcome = outcome
        (self.failed if isinstance(outcome, JobFailed) else self.finished).emit(outcome)
        self.ended.emit(outcome)


class JobRunner(QObject):
    """The jobs of one viewer: at most one per key ("train", "segment") at a time."""

    job_started = Signal(object)
    job_ended = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._jobs: dict[str, Job] = {}

    def running(self, key: str) -> Job | None:
        """Return the job that runs under ``key``, or None."""
        return self._jobs.get(key)

    @property
    def busy(self) -> bool:
        """True while any job runs."""
        return bool(self._jobs)

    def start(
        self,
        key: str,
        title: str,
        work: Work,
        *args: Any,
        capacity: int = 8,
        completes: bool = False,
        uses_torch: bool = True,
        on_event: Callable[[Any], Any] | None = None,
        on_finished: Callable[[JobFinished], Any] | None = None,
        on_failed: Callable[[JobFailed], Any] | None = None,
        **kwargs: Any,
    ) -> Job:
        """Run ``work(*args, cancelled=token, **kwargs)`` in a thread.

        Parameters
        ----------
        key
            Two jobs with the same key never run at once.
        title
            What the job is called in messages ("Training").
        work
            Generator function that yields events and looks at ``cancelled()`` per step or tile.
        capacity
            Most events that wait for the main thread; the work pauses when it is reached.
        completes
            Closing the viewer does not stop the work: what the user asked for is worth a wait.
        uses_torch
            Import torch in the thread and leave one core to the viewer.
        on_event, on_finished, on_failed
            Called on the main thread; connected before the work starts, so nothing is missed.

        Raises
        ------
        RuntimeError
            If a job with this key runs (a panel must not offer to start a second one).
        """
        if key in self._jobs:
            raise RuntimeError(f"{self._jobs[key].title} is still running")
        job = Job(title, capacity=capacity, completes=completes, parent=self)
        self._jobs[key] = job
        # Bookkeeping comes before the listeners, so that they may start the next job.
        job.finished.connect(self._forget)
        job.failed.connect(self._forget)
        if on_event is not None:
            job.yielded.connect(on_event)
        if on_finished is not None:
            job.finished.connect(on_finished)
        if on_failed is not None:
            job.failed.connect(on_failed)
        job.ended.connect(lambda _outcome: self._dispose(job))
        job.start(work, *args, uses_torch=uses_torch, **kwargs)
        self.job_started.emit(job)
        return job

    def cancel(self, key: str | None = None) -> None:
        """Ask one job, or all of them, to stop in order."""
        for name, job in self._jobs.items():
            if key is None or name == key:
                job.cancel()

    def shutdown(self, seconds: float = CLOSING_TIME) -> bool:
        """Abandon all jobs and wait at most ``seconds``; True when all that stop have ended."""
        jobs = list(self._jobs.values())
        self._jobs.clear()
        for job in jobs:
            job.abandon()
        deadline = time.perf_counter() + seconds
        ended = [
            job.wait(max(0.0, deadline - time.perf_counter())) for job in jobs if not job.completes
        ]
        if not all(ended):
            logger.warning("a job did not stop within %.1f s of closing the viewer", seconds)
        return all(ended)

    def _forget(self, outcome: JobFinished | JobFailed) -> None:
        for key, job in list(self._jobs.items()):
            if job.outcome is outcome:
                del self._jobs[key]

    def _dispose(self, job: Job) -> None:
        self.job_ended.emit(job)
        job.deleteLater()


def _log_warning(shown: tuple[Any, ...]) -> None:
    """Log a warning raised while a worker ran (arguments of ``warnings.showwarning``)."""
    message, category, filename, line = shown[:4]
    logger.warning("%s: %s (%s:%s)", category.__name__, message, filename, line)
