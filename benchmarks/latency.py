"""How smooth the viewer stays while it trains and while tiles stream, and what that costs.

A timer of the viewer's event loop asks to be called every 10 ms; the gaps between two calls are
what a user feels. Goal on 2 cores: 99 of 100 gaps below 50 ms, none above 250 ms. The same work
is also done without a viewer, with the same number of threads; the viewer may cost at most 10 %.

Needs a screen: ``xvfb-run -a python -m benchmarks.latency``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.report import conditions, table, write

WANTED_MS = 10


@dataclass
class Heartbeat:
    """Collects the gaps between the ticks of a 10 ms timer."""

    gaps: list[float] = field(default_factory=list)
    _last: float | None = None

    def start(self) -> None:
        """Begin to tick."""
        from qtpy.QtCore import Qt, QTimer

        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setInterval(WANTED_MS)
        self._timer.timeout.connect(self._tick)
        self._last = None
        self._timer.start()

    def stop(self) -> None:
        """End."""
        self._timer.stop()

    def _tick(self) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.gaps.append(1000 * (now - self._last))
        self._last = now

    def row(self, name: str) -> list[str]:
        """Return the line of the table."""
        gaps = np.array(self.gaps)
        middle, slow = np.percentile(gaps, [50, 99])
        return [name, f"{middle:.0f}", f"{slow:.0f}", f"{gaps.max():.0f}", str(len(gaps))]


def spin(until: Callable[[], bool]) -> None:
    """Run the event loop as napari does, until something is true."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    watch = QTimer()
    watch.timeout.connect(lambda: loop.quit() if until() else None)
    watch.start(20)
    loop.exec()
    watch.stop()


def felt(name: str, start: Callable[[], None], until: Callable[[], bool]) -> list[str]:
    """Measure the gaps from a click, which counts too, until something is true."""
    heartbeat = Heartbeat()
    heartbeat.start()
    spin(after(0.2))
    start()
    spin(until)
    heartbeat.stop()
    return heartbeat.row(name)


def after(seconds: float) -> Callable[[], bool]:
    """Return a condition that is true after some time."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


def headless_training(pairs: Any, settings: Any, base: Any) -> float:
    """Return steps per second without a viewer."""
    from napari_unet.core.events import TrainingStep
    from napari_unet.core.training import iter_training

    steps = [e for e in iter_training(pairs, settings, base) if isinstance(e, TrainingStep)]
    return rate([(step.step, step.seconds) for step in steps])


def rate(points: list[tuple[int, float]]) -> float:
    """Return steps per second after the first fifth, which warms up."""
    points = points[len(points) // 5 :]
    (first, start), (last, end) = points[0], points[-1]
    return (last - first) / (end - start)


def headless_segmentation(model: Any, image: np.ndarray) -> float:
    """Return seconds for the image without a viewer."""
    from napari_unet.core.segmentation import iter_segmentation

    middle = (image.shape[0] / 2, image.shape[1] / 2)
    start = time.perf_counter()
    for _event in iter_segmentation(model, image, diameter=None, focus=lambda: middle):
        pass
    return time.perf_counter() - start


def train_in(panel: Any, seconds: float) -> tuple[list[str], float]:
    """Train in the viewer; return the gaps and steps per second."""
    from napari_unet.core.events import TrainingStep

    points: list[tuple[int, float]] = []

    def note(event: Any) -> None:
        if isinstance(event, TrainingStep):
            points.append((event.step, event.seconds))

    panel.seconds.setMinimum(1)
    panel.seconds.setValue(int(seconds))

    def click() -> None:
        panel.start()
        if panel.error:
            raise SystemExit(panel.error)
        panel.session.jobs.running("train").yielded.connect(note)

    gaps = felt("training", click, lambda: not panel.running)
    return gaps, rate(points)


def segment_in(panel: Any) -> tuple[list[str], float, float]:
    """Segment in the viewer; return the gaps, seconds in all, and until the first objects."""
    clicked: list[float] = []
    first: list[float] = []

    def click() -> None:
        clicked.append(time.perf_counter())
        panel.start()
        if panel.error:
            raise SystemExit(panel.error)
        layer = panel.run.stream.layer

        def drawn() -> None:
            if layer.data.any():
                layer.events.set_data.disconnect(drawn)
                first.append(time.perf_counter())

        layer.events.set_data.connect(drawn)

    gaps = felt("streaming tiles", click, lambda: not panel.running)
    return gaps, time.perf_counter() - clicked[0], first[0] - clicked[0]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="length of the trainings")
    parser.add_argument("--size", type=int, default=4096, help="side of the image to segment")
    parser.add_argument("--model", default="nuclei")
    options = parser.parse_args()

    import napari
    import torch

    from napari_unet.core.device import cpu_threads
    from napari_unet.core.model_file import load_model
    from napari_unet.core.pairs import TrainingPair
    from napari_unet.core.settings import TrainSettings
    from napari_unet.samples import paint_cells, simulated_sample
    from napari_unet.widgets.segment import SegmentPanel
    from napari_unet.widgets.train import TrainPanel

    torch.set_num_threads(cpu_threads())
    model = load_model(options.model)
    sample = simulated_sample((512, 512))
    painted = paint_cells(np.asarray(sample.labels), 10)
    side = -(-options.size // 512)
    large = np.tile(sample.image, (side, side))[: options.size, : options.size]

    pairs = [TrainingPair(sample.image, painted)]
    settings = TrainSettings(seconds=options.seconds)
    alone = headless_training(pairs, settings, model)
    alone_seconds = headless_segmentation(model, large)

    viewer = napari.Viewer(show=True)
    viewer.add_image(sample.image, name="small")
    viewer.add_labels(painted)
    trainer = TrainPanel(viewer)
    viewer.window.add_dock_widget(trainer, name="Train")
    trainer.base.choose(options.model)
    rows = [felt("nothing", lambda: None, after(5))]
    spin(lambda: not trainer.session.jobs.busy)
    gaps, with_viewer = train_in(trainer, options.seconds)
    rows.append(gaps)

    viewer.layers.clear()
    # napari 0.9 on a software renderer crashes when no frame is drawn before the next layer comes.
    spin(after(0.5))
    viewer.add_image(large, name="large")
    segmenter = SegmentPanel(viewer)
    viewer.window.add_dock_widget(segmenter, name="Segment")
    segmenter.form.set_part("plane")
    segmenter.form.model.choose(options.model)
    segmenter.form.set_cell_size(model.diameter)
    spin(lambda: not segmenter.session.jobs.busy)
    gaps, seconds, first = segment_in(segmenter)
    rows.append(gaps)
    viewer.close()

    pixels = options.size**2 / 1e6
    lines = [
        f"# The viewer while it works\n\n{conditions('torch', 'napari', 'PyQt6')}\n",
        "Gaps of a 10 ms timer in ms.\n",
        table(["meanwhile", "median", "99 %", "largest", "ticks"], rows),
        "",
        table(
            ["work", "without viewer", "with viewer", "kept"],
            [
                [
                    "training, steps/s",
                    f"{alone:.2f}",
                    f"{with_viewer:.2f}",
                    f"{100 * with_viewer / alone:.0f} %",
                ],
                [
                    f"segmenting {options.size} x {options.size}, megapixel/s",
                    f"{pixels / alone_seconds:.2f}",
                    f"{pixels / seconds:.2f}",
                    f"{100 * alone_seconds / seconds:.0f} %",
                ],
            ],
        ),
        f"\nFirst objects drawn {first:.2f} s after the click on Segment.",
    ]
    write("latency", "\n".join(lines))


if __name__ == "__main__":
    main()
