"""Draw the figure of the page on the weight map: `python docs/weight_map_figure.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

from napari_unet.core.annotation import State, training_target
from napari_unet.core.settings import WeightMapSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.core.weight_map import weight_map

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

TARGET = Path(__file__).parent / "images" / "weight-map.png"
COLOURS = {
    State.IGNORED: ("ignored", "#e8e8e8"),
    State.BACKGROUND: ("background", "#8fb3d9"),
    State.OBJECT: ("object", "#2b5d34"),
    State.EMPHASISED: ("emphasised background", "#e3752b"),
}


def gap_weights(widths: np.ndarray, w0: float, sigma: float) -> list[float]:
    """Return the weight in the middle of gaps between two long walls."""
    found = []
    for width in widths:
        labels = np.zeros((41, 20 + width), np.int32)
        labels[:, :10], labels[:, 10 + width :] = 1, 2
        weights = weight_map(labels, w0=w0, sigma=sigma, class_balance=False)
        found.append(float(weights[20, 10 + (width - 1) // 2]))
    return found


def main() -> None:
    """Draw and save."""
    image, labels = simulate_nuclei((150, 150), 26, diameter=24, touching=0.8, seed=5)
    centres = {k: np.argwhere(labels == k).mean(axis=0) for k in range(1, labels.max() + 1)}
    nearest = sorted(centres, key=lambda k: float(np.hypot(*(centres[k] - (55, 60)))))[:9]
    painted = np.where(np.isin(labels, nearest), labels, 0)
    target = training_target(painted)
    figure, axes = plt.subplots(2, 2, figsize=(8.2, 7.6), layout="constrained")

    axes[0, 0].imshow(image, cmap="gray")
    shown = np.ma.masked_where(painted == 0, np.searchsorted(sorted(nearest), painted))
    axes[0, 0].imshow(shown, cmap="hsv", vmax=9, alpha=0.6, interpolation="nearest")
    axes[0, 0].set_title("Nine painted nuclei")

    colours = ListedColormap([colour for _, colour in COLOURS.values()])
    axes[0, 1].imshow(target.state, cmap=colours, vmin=-0.5, vmax=3.5, interpolation="nearest")
    axes[0, 1].legend(
        handles=[Patch(color=colour, label=name) for name, colour in COLOURS.values()],
        loc="lower right",
        fontsize=8,
    )
    axes[0, 1].set_title("What is trained on")

    weights = np.ma.masked_where(target.state == State.IGNORED, target.weight)
    drawn = axes[1, 0].imshow(weights, cmap="viridis", interpolation="nearest")
    axes[1, 0].set_facecolor("#e8e8e8")
    figure.colorbar(drawn, ax=axes[1, 0], shrink=0.8)
    axes[1, 0].set_title("Weight of each pixel")
    for one in (axes[0, 0], axes[0, 1], axes[1, 0]):
        one.set(xticks=[], yticks=[])

    widths = np.arange(1, 31)
    for sigma in (2.5, 5.0, 10.0):
        default = " (default)" if sigma == WeightMapSettings().sigma else ""
        axes[1, 1].plot(widths, gap_weights(widths, 10, sigma), label=f"sigma {sigma:g}{default}")
    axes[1, 1].set(
        xlabel="width of the gap (px)", ylabel="weight in the middle", ylim=(0, None), xlim=(0, 30)
    )
    axes[1, 1].legend()
    axes[1, 1].set_title("Narrow gaps count more (w0 = 10)")

    TARGET.parent.mkdir(exist_ok=True)
    figure.savefig(TARGET, dpi=100)


if __name__ == "__main__":
    main()
