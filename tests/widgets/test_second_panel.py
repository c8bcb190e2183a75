"""Two panels of one viewer: each works alone, and neither trips over what the other runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_unet.widgets import export, segment, train
from napari_unet.widgets._thresholds import ALL_KEY
from napari_unet.widgets.panel import Panel


def slow(*, cancelled: Callable[[], bool]) -> Iterator[None]:
    """Run until it is stopped, as the first panel's job does."""
    while not cancelled():
        time.sleep(0.01)
        yield None


@pytest.mark.parametrize(
    ("module", "panel_class", "start"),
    [
        (train, train.TrainPanel, lambda panel, _folder: panel.start()),
        (segment, segment.SegmentPanel, lambda panel, _folder: panel.start()),
        (export, export.ExportPanel, lambda panel, folder: panel.save(folder / "masks.tif")),
    ],
    ids=["train", "segment", "export"],
)
def test_a_second_panel_says_that_the_first_still_runs(
    viewer: Any,
    qtbot: Any,
    tmp_path: Path,
    module: Any,
    panel_class: type[Panel],
    start: Callable[[Any, Path], None],
) -> None:
    """Also a panel that was closed and opened again while its job was ending."""
    viewer.add_labels(np.ones((64, 80), np.int32), name="painted")
    panel: Any = panel_class(viewer)
    qtbot.addWidget(panel)
    jobs = panel.session.jobs
    jobs.start(module.KEY, module.TITLE, slow, uses_torch=False)
    layers = list(viewer.layers)
    start(panel, tmp_path)
    assert panel.error == f"{module.TITLE} is still running in this viewer; wait until it ends."
    assert not panel.button.running
    assert list(viewer.layers) == layers
    jobs.cancel(module.KEY)
    qtbot.waitUntil(lambda: not jobs.busy, timeout=20_000)
    panel.session.close()


@pytest.mark.parametrize(
    ("module", "panel_class"),
    [(train, train.TrainPanel), (segment, segment.SegmentPanel)],
    ids=["train", "segment"],
)
def test_closing_a_second_panel_does_not_stop_what_the_first_runs(
    viewer: Any, qtbot: Any, module: Any, panel_class: type[Panel]
) -> None:
    panel: Any = panel_class(viewer)
    second = panel_class(viewer)
    for one in (panel, second):
        qtbot.addWidget(one)
    jobs = panel.session.jobs
    job = jobs.start(module.KEY, module.TITLE, slow, uses_torch=False)
    objects = jobs.start(ALL_KEY, "The new thresholds", slow, uses_torch=False)
    panel.button.set_running(True)
    second.dismiss()
    assert not job.token() and not objects.token()
    panel.dismiss()
    assert job.token()
    jobs.cancel()
    qtbot.waitUntil(lambda: not jobs.busy, timeout=20_000)
    panel.session.close()
