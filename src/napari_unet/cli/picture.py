"""One picture of the whole job: image, annotation, weight map, training, result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from scipy import ndimage

from napari_unet.core.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _PAPER, _MUTED = "#1b1f24", "#ffffff", "#8a929c"
_TRUTH, _LOSS, _SCORE = "#ffffff", "#3b6fb6", "#d1495b"
_Image = npt.NDArray[Any]


@dataclass
class Curves:
    """What a training run reported: loss per step, and average precision where it was measured."""

    seconds: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    judged_at: list[float] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)

    def record(self, event: object) -> None:
        """Take the numbers of one training event."""
        from napari_unet.core.events import TrainingStep, Validation

        if isinstance(event, TrainingStep):
            self.seconds.append(event.seconds)
            self.loss.append(event.loss)
        elif isinstance(event, Validation) and np.isfinite(event.scores.ap50):
            self.judged_at.append(event.seconds)
            self.precision.append(event.scores.ap50)


@dataclass(frozen=True)
class Story:
    """Everything that the picture shows."""

    image: _Image
    painted: _Image
    weight: _Image
    curves: Curves
    new_image: _Image
    found: _Image
    truth: _Image
    caption: str


def draw(story: Story, path: Path) -> None:
    """Write the picture as PNG.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    style: Any = {
        "font.size": 10,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": _MUTED,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "xtick.color": _MUTED,
        "ytick.color": _MUTED,
    }
    with mpl.rc_context(style):
        spaced = ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.98, 0.975), w_pad=0.08, h_pad=0.08)
        figure = Figure(figsize=(13.5, 9.0), facecolor=_PAPER, layout=spaced)
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, 3).ravel()
        for each in axes:
            each.set_anchor("N")
        _show_image(axes[0], story.image, "1  An image")
        _show_painted(axes[1], story)
        _show_weights(figure, axes[2], story)
        _show_curves(axes[3], story.curves)
        _show_image(axes[4], story.new_image, "5  An image it has never seen")
        _show_result(axes[5], story)
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format="png", dpi=110)


def _show_image(axes: Axes, image: _Image, title: str) -> None:
    low, high = np.percentile(image, [0.5, 99.8])
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()


def _show_painted(axes: Axes, story: Story) -> None:
    count = len(np.unique(story.painted[story.painted > 0]))
    _show_image(axes, story.image, f"2  {count} painted cells")
    axes.imshow(colours(story.painted, 0.75), interpolation="nearest")
    rows, columns = close_up(story.weight > 0)
    corner = (columns.start - 0.5, rows.start - 0.5)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=_PAPER, linewidth=1))


def _show_weights(figure: Figure, axes: Axes, story: Story) -> None:
    axes.set_title("3  What is trained on (close-up)")
    weight = story.weight[close_up(story.weight > 0)]
    trained = weight > 0
    low = float(weight[trained].min())
    high = max(float(weight.max()), 1.01 * low)
    axes.set_facecolor("#d9dce0")
    mappable = axes.imshow(
        np.ma.masked_where(~trained, weight),
        cmap="viridis",
        norm=LogNorm(low, high),
        interpolation="nearest",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    scale = figure.colorbar(
        mappable,
        ax=axes,
        location="bottom",
        panchor=(0.5, 1.0),
        shrink=0.8,
        pad=0.02,
        aspect=40,
        label="weight, on a logarithmic scale (gray: ignored)",
    )
    ticks = [tick for tick in (0.1, 0.3, 1, 3, 10, 30, 100) if low <= tick <= high]
    scale.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    scale.ax.minorticks_off()


def close_up(trained: _Image) -> tuple[slice, slice]:
    """Return a square window around the trained pixels, as far as the image reaches."""
    (rows, columns) = ndimage.find_objects(trained.astype(np.uint8))[0]
    side = max(rows.stop - rows.start, columns.stop - columns.start) + 20
    window = []
    for axis, size in zip((rows, columns), trained.shape, strict=True):
        start = min(max(0, (axis.start + axis.stop - side) // 2), max(0, size - side))
        window.append(slice(start, min(size, start + side)))
    return window[0], window[1]


def _show_curves(axes: Axes, curves: Curves) -> None:
    axes.set_title("4  Training")
    axes.set_box_aspect(0.9)
    seconds, loss = np.array(curves.seconds), np.array(curves.loss)
    axes.plot(seconds, loss, color=_LOSS, alpha=0.25, linewidth=0.8)
    window = max(1, len(loss) // 25)
    smooth = ndimage.uniform_filter1d(loss, window, mode="nearest") if len(loss) else loss
    axes.plot(seconds, smooth, color=_LOSS, linewidth=2)
    axes.set_xlabel("seconds")
    axes.set_ylabel("loss", color=_LOSS)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    if curves.precision:
        right = axes.twinx()
        right.plot(curves.judged_at, curves.precision, "o-", color=_SCORE, markersize=4)
        right.set_ylim(0, 1.02)
        right.set_box_aspect(0.9)
        right.set_anchor("N")
        right.set_ylabel("average precision on cells held back", color=_SCORE)
        right.spines[["top", "left"]].set_visible(False)


def _show_result(axes: Axes, story: Story) -> None:
    _show_image(axes, story.new_image, "6  The cells found (white: exact truth)")
    axes.imshow(colours(story.found, 0.7), interpolation="nearest")
    outline = np.zeros((*story.truth.shape, 4), dtype=np.float32)
    outline[borders(story.truth)] = mpl.colors.to_rgba(_TRUTH)
    axes.imshow(outline, interpolation="nearest")
    axes.text(0, 1.015 * story.truth.shape[0], story.caption, va="top")


def colours(labels: _Image, opacity: float) -> npt.NDArray[np.float32]:
    """Return ``(Y, X, 4)`` colours in which neighbouring numbers differ; 0 is transparent."""
    # The golden ratio spreads the hues of consecutive numbers as far apart as possible.
    hue = (np.arange(labels.max() + 1) * 0.618034) % 1
    table = np.ones((len(hue), 4), dtype=np.float32)
    wheel: Sequence[float] = (0.0, 2 / 3, 1 / 3)
    for channel, shift in enumerate(wheel):
        table[:, channel] = 0.55 + 0.45 * np.cos(2 * np.pi * (hue + shift))
    table[:, 3] = opacity
    table[0] = 0
    return table[np.maximum(labels, 0)]


def borders(labels: _Image) -> npt.NDArray[np.bool_]:
    """Return the pixels of objects that have a 4-neighbour with another label."""
    padded = np.pad(labels, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    different = np.logical_or.reduce([side != middle for side in neighbours])
    return np.asarray(different & (middle > 0))
