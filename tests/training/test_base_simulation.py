from __future__ import annotations

import numpy as np
import pytest
from training.base_data import AnnotatedImage
from training.base_simulation import dimmed, off_scale, rendered

from napari_unet.core.simulation import simulate_nuclei


@pytest.fixture(scope="module")
def item() -> AnnotatedImage:
    image, labels = simulate_nuclei((160, 200), n=25, diameter=20, seed=3)
    return AnnotatedImage("one", "fluo_small", "g1", False, 20.0, image, labels)


def test_rendered_images_keep_the_label_map_and_repeat(item: AnnotatedImage) -> None:
    first, second = rendered([item], 6, seed=1), rendered([item], 6, seed=1)
    assert len(first) == 6
    for one, again in zip(first, second, strict=True):
        assert one.kind == "simulated" and one.group == item.group
        assert one.image.shape[:2] == one.labels.shape
        assert one.image.dtype == np.uint16 and one.image.std() > 0
        assert np.bincount(one.labels.ravel())[1:].tolist() == (
            np.bincount(item.labels.ravel())[1:].tolist()
        )
        assert np.array_equal(one.image, again.image)
    looks = {one.image.tobytes() for one in first}
    assert len(looks) == 6
    assert {one.image.ndim for one in rendered([item], 30, seed=0)} == {2, 3}


def test_objects_can_be_told_from_what_surrounds_them(item: AnnotatedImage) -> None:
    """Some channel of nearly every image differs between objects and background."""
    contrasts = []
    for one in rendered([item], 20, seed=2):
        planes = one.image.reshape(*one.labels.shape, -1).astype(float)
        inside, outside = planes[one.labels > 0], planes[one.labels == 0]
        difference = np.abs(inside.mean(axis=0) - outside.mean(axis=0))
        contrasts.append(float((difference / planes.std(axis=(0, 1))).max()))
    assert np.mean(np.array(contrasts) > 0.5) > 0.8


def test_dimming_scales_objects_and_leaves_the_background(item: AnnotatedImage) -> None:
    dim = dimmed(item, np.random.default_rng(0))
    assert dim.image.dtype == item.image.dtype and np.array_equal(dim.labels, item.labels)
    before, after = item.image.astype(float), dim.image.astype(float)
    ids = np.arange(1, item.labels.max() + 1)
    ratios = [after[item.labels == k].mean() / before[item.labels == k].mean() for k in ids]
    assert max(ratios) <= 1.01 and min(ratios) < 0.6
    assert np.ptp(ratios) > 0.2
    far = item.image < np.percentile(item.image, 20)
    assert np.abs(after[far] - before[far]).mean() < 0.05 * before.std()


def test_off_scale_views_are_far_from_the_usual_size(item: AnnotatedImage) -> None:
    views = off_scale([item] * 60, seed=0)
    assert 5 <= len(views) <= 30
    octaves = np.array([abs(np.log2(view.diameter / item.diameter)) for view in views])
    assert (octaves >= 0.8).all() and (octaves <= 2.5).all()
    assert all(view.image is item.image and view.kind == "off scale" for view in views)
