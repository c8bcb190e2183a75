"""Take the pictures of the documentation: every panel in use, in a real window.

    xvfb-run -a -s "-screen 0 1366x768x24" python docs/make_screenshots.py

The window has the size of a small laptop, 1366 x 768. The simulated sample is shown, or with
``--data FOLDER --image NAME`` a real image (``FOLDER/images/NAME.tif`` and its mask
``FOLDER/masks/NAME.tif``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
WIDTH, HEIGHT = 1366, 768


def spin(until: Callable[[], bool], longest: float = 600) -> None:
    """Let the viewer work until something is true."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + longest
    while not until() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)
    for _ in range(20):
        QApplication.processEvents()


def after(seconds: float) -> Callable[[], bool]:
    """Return a condition that is true after some time."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


class Photographer:
    """Goes through the work of a user and takes pictures."""

    def __init__(self, folder: Path, theme: str, image: Any, truth: Any, name: str) -> None:
        import napari

        from napari_unet.widgets.application import add_panels

        self.folder, self.theme = folder, theme
        self.truth = truth
        self.viewer = napari.Viewer(show=True)
        self.viewer.theme = theme
        window = self.viewer.window.main_menu.window()
        window.resize(WIDTH, HEIGHT)
        layer = self.viewer.add_image(image, name=name)
        if not layer.rgb:
            layer.contrast_limits = tuple(np.percentile(image, [1, 99.8]))
        self.dock = add_panels(self.viewer)
        self.session = self.dock.session
        spin(after(1))

    def shoot(self, name: str) -> None:
        """Write one picture."""
        spin(after(0.6))
        suffix = "" if self.theme == "dark" else f"-{self.theme}"
        path = self.folder / f"{name}{suffix}.png"
        self.viewer.screenshot(str(path), canvas_only=False, flash=False)
        print(path.name)

    def everything(self, seconds: int) -> None:
        """Take all pictures."""
        self.annotate()
        self.weights()
        self.train(seconds)
        self.segment()
        self.correct()
        self.export()

    def annotate(self) -> None:
        """Paint five cells in the middle."""
        from napari_unet.samples import paint_cells

        panel: Any = self.dock.show_panel("Annotate")
        panel.new_button.click()
        layer = self.session.annotation
        five = paint_cells(self.truth.astype(np.int32), 5)
        for number, cell in enumerate(np.unique(five[five > 0]), start=1):
            layer.data_setitem(np.nonzero(five == cell), number)
        middle = np.argwhere(five > 0).mean(axis=0)
        camera = self.viewer.scene.camera
        camera.center = tuple(middle)
        camera.zoom = 2.2 * camera.zoom
        spin(lambda: not self.session.live.busy)
        self.shoot("annotate")

    def weights(self) -> None:
        """Show what will be trained on."""
        panel: Any = self.dock.show_panel("Weights")
        for view, name in (("states", "states"), ("weights", "weights")):
            panel.show_view(view)
            spin(lambda: panel.preview.up_to_date and not self.session.live.busy)
            self.shoot(name)
        panel.show_view("")

    def train(self, seconds: int) -> None:
        """Train, with one picture on the way."""
        panel: Any = self.dock.show_panel("Train")
        spin(lambda: not self.session.jobs.busy, 60)
        panel.seconds.setValue(seconds)
        panel.start()
        spin(lambda: len(panel.plot.scores) >= 3 or not panel.running)
        self.shoot("training")
        spin(lambda: not panel.running)
        self.shoot("trained")

    def segment(self) -> None:
        """Segment the whole image, with one picture on the way."""
        from napari_unet.core.settings import TileSettings

        for layer in list(self.viewer.layers):
            if layer.name == "training preview":
                self.viewer.layers.remove(layer)
        self.session.annotation.visible = False
        self.viewer.reset_view()
        panel: Any = self.dock.show_panel("Segment")
        spin(lambda: not self.session.jobs.busy and not panel.sizes.busy, 60)
        panel.form.set_part("plane")
        panel.options.tiles.set_settings(TileSettings(tile=128))
        panel.start()
        spin(lambda: not panel.running)
        self.shoot("segmented")

    def correct(self) -> None:
        """Move a slider and take objects over."""
        panel: Any = self.dock.show_panel("Segment")
        self.session.annotation.visible = True
        panel.result.use_as_annotation()
        self.shoot("use-as-annotation")

    def export(self) -> None:
        """Show the formats."""
        panel: Any = self.dock.show_panel("Export")
        panel.labels.set_layer(self.dock.panel("Segment").run.stream.layer)
        self.shoot("export")


def picture(data: Path | None, name: str) -> tuple[Any, Any, str]:
    """Return image, truth and layer name."""
    if data is not None:
        import tifffile

        image, mask = (tifffile.imread(data / kind / f"{name}.tif") for kind in ("images", "masks"))
        return image, mask, "nuclei"
    from napari_unet.samples import simulated_sample

    sample = simulated_sample()
    return sample.image, np.asarray(sample.labels), sample.name


def main() -> None:
    """Take the pictures in both themes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of real images instead of the sample")
    parser.add_argument("--image", help="name of a file in --data, without its ending")
    parser.add_argument("--output", type=Path, default=HERE / "images")
    parser.add_argument("--seconds", type=int, default=30, help="length of the training")
    parser.add_argument("--themes", nargs="+", default=["dark", "light"])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    image, truth, name = picture(options.data, options.image)
    for theme in options.themes:
        photographer = Photographer(options.output, theme, image, truth, name)
        photographer.everything(options.seconds)
        photographer.viewer.close()


if __name__ == "__main__":
    main()
