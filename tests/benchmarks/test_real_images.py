from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from benchmarks.few_cells_data import Case
from training.base_data import AnnotatedImage

from benchmarks import real_images
from napari_unet.core.simulation import simulate_nuclei


def test_command_says_what_went_wrong() -> None:
    with pytest.raises(RuntimeError, match=r"ended with 2: .*no-such-file"):
        real_images.command("evaluate", "no-such-file", "neither")


def test_files_are_those_a_user_would_have(tmp_path: Path) -> None:
    image, truth = simulate_nuclei((96, 96), diameter=18, seed=1)
    item = AnnotatedImage("one", "fluo_large", "g", True, 18.0, image, truth)
    task = Case("fluo_large", 0, 3, item, truth, (item,))
    real_images.lay_out(tmp_path, item, truth, task)
    assert np.array_equal(tifffile.imread(tmp_path / "images" / "one.tif"), image)
    assert np.array_equal(tifffile.imread(tmp_path / "painted.tif"), truth)
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "one_masks.tif", truth.astype(np.uint16))
    scores = real_images.evaluate(tmp_path, "masks")
    assert (scores.ap50, scores.ap75, scores.f1) == (1, 1, 1)
    assert scores.objects == scores.predicted == len(np.unique(truth)) - 1
