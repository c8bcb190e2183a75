"""The samples need no network, and painting keeps the wanted cells."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.errors import InputError
from napari_unet.samples import histology_sample, paint_cells, simulated_sample


def test_real_sample_without_network(monkeypatch):
    """Complaint 23: behind a firewall the sample is still there."""

    def refuse(*_):
        raise AssertionError("the sample asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    sample = histology_sample()
    assert sample.rgb
    assert sample.image.shape == (512, 512, 3)
    assert sample.labels is None


def test_simulated_sample_knows_its_labels():
    sample = simulated_sample((128, 160))
    assert not sample.rgb
    assert sample.labels is not None
    assert sample.labels.shape == sample.image.shape == (128, 160)


def test_painted_cells_are_neighbours_and_unchanged():
    labels = simulated_sample((256, 256)).labels
    painted = paint_cells(labels, 5, near=(0, 0))
    kept = set(np.unique(painted)) - {0}
    assert len(kept) == 5
    np.testing.assert_array_equal(painted > 0, np.isin(labels, list(kept)))

    def distance(number):
        return np.hypot(*(axis.mean() for axis in np.nonzero(labels == number)))

    others = set(np.unique(labels)) - {0} - kept
    assert max(map(distance, kept)) <= min(map(distance, others))


def test_painted_cells_stand_apart_from_the_others():
    sample = simulated_sample((512, 512), seed=1)
    painted = paint_cells(sample.labels, 8)
    around = ndimage.binary_dilation(painted > 0, iterations=5)
    left_out = (sample.labels > 0) & (painted == 0)
    assert len(np.unique(painted)) == 9
    assert (around & left_out).sum() < 0.1 * (painted > 0).sum()


def test_painting_more_cells_than_there_are():
    labels = np.eye(4, dtype=np.int32)
    with pytest.raises(InputError, match="1 objects to paint, not 2"):
        paint_cells(labels, 2)
