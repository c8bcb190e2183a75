"""How soon the preview layer is right again after a stroke, and after a move of the w0 slider.

A real viewer with a 2048 x 2048 annotation of 1,000 objects; needs a screen (``xvfb-run`` does).
Printed are medians and maxima in milliseconds: until what is seen is right, and until every pixel
of the layer is right. The pause that the plugin waits after a stroke is part of the time.

    xvfb-run -a python benchmarks/preview_latency.py
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np


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

    def measure(action: object) -> tuple[float, float]:
        """Return milliseconds until the view and until the whole layer is right."""
        seen: list[float] = []
        settle()
        start = time.perf_counter()
        live.updated.connect(lambda _box: seen.append(time.perf_counter()))
        action()  # type: ignore[operator]
        while not seen or live.busy or not preview.up_to_date:
            QApplication.processEvents()
        end = time.perf_counter()
        live.updated.disconnect()
        live.updated.connect(preview.update)
        return 1000 * (seen[0] - start), 1000 * (end - start)

    random = np.random.default_rng(1)

    def stroke() -> None:
        labels.paint(tuple(random.uniform(50, options.side - 50, 2)), options.objects + 1)

    def slide() -> None:
        settings = panel.session.weight_settings
        panel.session.weight_settings = replace(settings, w0=float(random.uniform(1, 30)))

    print(f"{options.side} x {options.side}, {options.objects} objects, {options.repeats} repeats")
    print(f"{'view':10s} {'action':12s} {'seen right':>20s} {'all right':>20s}   ms, median (max)")
    for view in ("weights", "states"):
        panel.show_view(view)
        settle()
        for name, action in (("stroke", stroke), ("w0 slider", slide)):
            times = np.array([measure(action) for _ in range(options.repeats)])
            middle, worst = np.median(times, axis=0), times.max(axis=0)
            print(
                f"{view:10s} {name:12s} {middle[0]:12.0f} ({worst[0]:4.0f}) "
                f"{middle[1]:14.0f} ({worst[1]:4.0f})"
            )
    viewer.close()


if __name__ == "__main__":
    main()
