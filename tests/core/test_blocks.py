"""Labels of a map processed block by block against those of the whole map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_unet.core import blocks
from napari_unet.core.blocks import BlockwiseLabels, essential
from napari_unet.core.events import BlocksDone
from napari_unet.core.instances import label_instances
from napari_unet.core.settings import InstanceSettings

from .test_instances import smooth_map, thresholds

few = settings(max_examples=40, deadline=None)


def blockwise(
    values: np.ndarray, options: InstanceSettings, block: int
) -> tuple[np.ndarray, BlockwiseLabels]:
    work = np.full(values.shape, 77, np.int32)
    result = np.full(values.shape, -1, np.int32)
    labelling = BlockwiseLabels(values, work, result, options, block)
    for _ in labelling.run():
        pass
    return result, labelling


@few
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(0, 10_000),
    st.sampled_from([5, 8, 13, 64]),
    st.sampled_from([1.0, 2.0]),
    thresholds(),
)
def test_blocks_give_the_labels_of_the_whole_map(
    height: int, width: int, seed: int, block: int, sigma: float, options: InstanceSettings
) -> None:
    """Complaints 17 and 18: objects and holes on every border."""
    values = smooth_map(height, width, seed, sigma)
    got, labelling = blockwise(values, options, block)
    whole = label_instances(values, options)
    assert labelling.shortened == 0  # the first context is larger than these images
    np.testing.assert_array_equal(got, whole)
    assert labelling.objects == whole.max(initial=0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([9, 12]), thresholds())
def test_context_grows_with_the_objects(seed: int, block: int, options: InstanceSettings) -> None:
    """Starting from a context of one pixel, the result is the same where no limit is reached."""
    values = smooth_map(30, 30, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "FIRST_CONTEXT", 1)
        work, result = np.zeros((2, 30, 30), np.int32)
        labelling = BlockwiseLabels(values, work, result, options, block)
        labelling._largest_context = 32
        list(labelling.run())
    np.testing.assert_array_equal(result, label_instances(values, options))


@few
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10_000), thresholds())
def test_essential_values_give_the_same_labels(
    height: int, width: int, seed: int, options: InstanceSettings
) -> None:
    values = smooth_map(height, width, seed)
    np.testing.assert_array_equal(
        label_instances(essential(values, options), options), label_instances(values, options)
    )


@few
@given(st.integers(0, 10_000), st.sampled_from([7, 16]), thresholds())
def test_essential_values_of_blocks_give_the_same_labels(
    seed: int, block: int, options: InstanceSettings
) -> None:
    """What is thrown away at the border of one block is not needed by its neighbours."""
    values = smooth_map(33, 41, seed)
    kept = np.empty_like(values)
    for y in range(0, 33, block):
        for x in range(0, 41, block):
            part = slice(y, y + block), slice(x, x + block)
            kept[part] = essential(values[part], options)
    np.testing.assert_array_equal(label_instances(kept, options), label_instances(values, options))


def test_essential_values_are_few() -> None:
    values = np.random.default_rng(0).uniform(0, 0.3, (64, 64)).astype(np.float32)
    values[20:40, 20:40] += 0.65
    assert set(np.unique(essential(values, InstanceSettings()))) == {0, 1}


def test_masses_larger_than_the_context_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A sheet over all blocks is still labelled as one, and the log says what was shortened."""
    values = np.full((300, 300), 0.45, np.float32)
    values[3:297, 3:297] = 0.9
    options = InstanceSettings(seed_threshold=0.5, mask_threshold=0.4)
    got, labelling = blockwise(values, options, 64)
    assert labelling.shortened > 0
    assert "growth looked 64 px beyond" in caplog.text
    np.testing.assert_array_equal(got, label_instances(values, options))


def test_a_hole_over_four_blocks_is_filled() -> None:
    values = np.zeros((40, 40), np.float32)
    values[4:36, 4:36] = 0.9
    values[12:28, 12:28] = 0.0
    got, _ = blockwise(values, InstanceSettings(), 20)
    assert (got[4:36, 4:36] == 1).all()


def test_background_that_touches_only_diagonally_over_a_corner_is_one() -> None:
    """The hole is open through a diagonal gap exactly at the corner of four blocks."""
    values = np.full((20, 20), 0.9, np.float32)
    values[10:15, 10:15] = 0.0
    values[0:10, 9] = 0.0
    got, _ = blockwise(values, InstanceSettings(min_size=0), 10)
    np.testing.assert_array_equal(got, label_instances(values, InstanceSettings(min_size=0)))
    assert not got[10:15, 10:15].any()


def test_progress_and_cancel() -> None:
    values = smooth_map(30, 30, 0)
    work, result = np.zeros((2, 30, 30), np.int32)
    events = list(BlockwiseLabels(values, work, result, InstanceSettings(), 10).run())
    assert [e.stage for e in events] == [
        stage for stage in ("seeds", "growth", "holes", "numbers") for _ in range(9)
    ]
    assert events[-1] == BlocksDone("numbers", 9, 9)
    untouched = np.full((30, 30), -5, np.int32)
    run = BlockwiseLabels(values, work, untouched, InstanceSettings(), 10).run(lambda: True)
    assert len(list(run)) == 1
    assert (untouched == -5).all()


def test_nothing_to_label() -> None:
    got, labelling = blockwise(np.zeros((9, 9), np.float32), InstanceSettings(), 4)
    assert labelling.objects == 0
    assert not got.any()
