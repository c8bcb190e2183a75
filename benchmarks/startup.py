"""What importing, asking for help and opening the dock cost.

Each time is that of a fresh interpreter, in turn with one that does without: the difference of
their medians is what this package adds. The dock needs a screen:

    xvfb-run -a python -m benchmarks.startup
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from benchmarks.report import conditions, seconds_in_turn, table, write

#: The first dock of a process is the one that a user waits for.
_DOCK = """
import time, napari, numpy
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer(show=True)
viewer.add_image(numpy.zeros((512, 512), "uint8"))
QApplication.processEvents()
start = time.perf_counter()
viewer.window.add_plugin_dock_widget("napari-unet-finetune", "U-Net")
QApplication.processEvents()
print(time.perf_counter() - start)
viewer.close()
"""


def interpreter(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def added(code: str, repeats: int) -> tuple[float, float]:
    """Return the median seconds of an interpreter with code, and what it has over an empty one."""
    runs = {"code": lambda: interpreter(code), "nothing": lambda: interpreter("pass")}
    times = {
        name: statistics.median(found) for name, found in seconds_in_turn(runs, repeats).items()
    }
    return times["code"], times["code"] - times["nothing"]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()

    _, importing = added("import napari_unet", options.repeats)
    asking, _ = added(
        "import napari_unet.cli as cli, sys; sys.exit(cli.main(['--help']))", options.repeats
    )
    docks = [float(interpreter(_DOCK).split()[-1]) for _ in range(options.repeats)]
    opening = statistics.median(docks)
    rows = [
        ["`import napari_unet`, over an empty interpreter", f"{1000 * importing:.0f}", 50],
        ["`napari-unet --help`, in all", f"{1000 * asking:.0f}", 500],
        [
            "first dock of all panels in an open napari",
            f"{1000 * opening:.0f}",
            1000,
        ],
    ]
    text = [
        "# Start-up",
        conditions("napari-unet-finetune", "napari", "PyQt6"),
        f"Medians of {options.repeats} fresh interpreters.",
        table(["what", "ms", "goal, ms"], rows),
    ]
    write("startup", "\n\n".join(text))


if __name__ == "__main__":
    main()
