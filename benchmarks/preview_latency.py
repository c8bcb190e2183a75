"""How soon the preview layer is right again after a stroke, and after a move of the w0 slider.

A real viewer with a 2048 x 2048 annotation of 1,000 objects. Medians and maxima in milliseconds:
until what is seen is right, and until every pixel of the layer is right. The pause that the plugin
waits after a stroke is part of the time. Needs a screen:

    xvfb-run -a python -m benchmarks.preview_latency
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.report import conditions, table, write

#: Milliseconds that are promised, for what is seen.
GOALS = {"stroke": 150, "w0 slider": 50}


def painted_objects(side: int, count: int) -> np.ndarray:
    """Return ``count`` touching and separate discs on a jittered grid, as int32 labels."""
    labels = np.zeros((side, side), np.int32)
    random = np.random.default_rng(0)
    across = int(np.ceil(np.sqrt(count)))
    step = side / across
    radius = int(0.45 * step)
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = rows**2 + columns**2 <= radius**2
    for number in range(count):
        middle = (np.array(divmod(number, across)) + 0.5) * step + random.uniform(-4, 4, 2)
        top, left = (np.clip(middle - radius, 0, side - 2 * radius - 1)).astype(int)
        window = labels[top : top + 2 * radius + 1, left : left + 2 * radius + 1]
        window[disc & (window == 0)] = number + 1
    return labels


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()

    import napari
    from qtpy.QtWidgets import QApplication

    from napari_unet.widgets.weight_map import WeightMapPanel

    viewer = napari.Viewer(show=True)
    labels = viewer.add_labels(painted_objects(options.side, options.objects))
    panel = WeightMapPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Weights")
    live, preview = panel.session.live, panel.preview

    def settle() -> None:
        while live.busy or not preview.up_to_date:
            QApplication.processEvents()
        QApplication.processEvents()

    def measure(action: Callable[[], None]) -> tuple[float, float]:
        """Return milliseconds until the view and until the whole layer is right."""
        seen: list[float] = []

        def note(_box: object) -> None:
            seen.append(time.perf_counter())

        settle()
        live.updated.connect(note)
        start = time.perf_counter()
        action()
        while not seen or live.busy or not preview.up_to_date:
            QApplication.processEvents()
        end = time.perf_counter()
        live.updated.disconnect(note)
        return 1000 * (seen[0] - start), 1000 * (end - start)

    random = np.random.default_rng(1)

    def stroke() -> None:
        labels.paint(tuple(random.uniform(50, options.side - 50, 2)), options.objects + 1)

    def slide() -> None:
        settings = panel.session.weight_settings
        panel.session.weight_settings = replace(settings, w0=float(random.uniform(1, 30)))

    rows = []
    for view, title in (("weights", "weights"), ("states", "what is learned")):
        panel.show_view(view)
        settle()
        for name, action in (("stroke", stroke), ("w0 slider", slide)):
            times = np.array([measure(action) for _ in range(options.repeats)])
            pairs = zip(np.median(times, axis=0), times.max(axis=0), strict=True)
            cells = [f"{middle:.0f} ({worst:.0f})" for middle, worst in pairs]
            rows.append([title, name, *cells, GOALS[name]])
    viewer.close()
    text = [
        f"# The preview of {options.side} x {options.side} pixels with {options.objects:,} objects",
        conditions("napari", "PyQt6", "numpy", "scipy"),
        f"Milliseconds after the action: median (largest) of {options.repeats}.",
        table(["view", "action", "what is seen is right", "all is right", "goal, seen"], rows),
    ]
    write("preview_latency", "\n\n".join(text))


if __name__ == "__main__":
    main()
