"""Shared fixtures."""

from __future__ import annotations

import gc
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from napari_unet.core.model import Model

# A busy machine must not turn a slow example into a failure.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real annotated images; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real annotated images (../shared/data) are not here")
    return SHARED_DATA.resolve()


@pytest.fixture
def small_disk() -> None:
    """Let the operating system refuse files above 4 KiB, as a full disk does, during the test."""
    pytest.importorskip("resource", reason="limits of file sizes are a Unix feature")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Limit file sizes inside the test only: pytest's own report may go to a larger file."""
    if "small_disk" not in pyfuncitem.fixturenames:
        return (yield)
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        return (yield)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="session")
def bright_model() -> Model:
    """A network with weights set by hand: what is brighter than the middle is an object."""
    import torch

    from napari_unet.core.model import Model
    from napari_unet.core.normalization import Normalization
    from napari_unet.core.unet import UNet

    net = UNet(1, 2, base_channels=1, depth=1, padding="same", norm=None, dropout=0.0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.contracting[0][0].weight[0, 0, 1, 1] = 1
        net.contracting[0][2].weight[0, 0, 1, 1] = 1
        net.expanding[0][0].weight[0, 0, 1, 1] = 1  # the skip connection, not the up path
        net.expanding[0][2].weight[0, 0, 1, 1] = 1
        net.classifier.weight[:, 0, 0, 0] = torch.tensor([-6.0, 6.0])
        net.classifier.bias[:] = torch.tensor([3.0, -3.0])
    return Model(net.eval(), "bright", normalization=Normalization(0, 100))


@pytest.fixture(scope="module", autouse=True)
def _short_collections() -> None:
    """Take what is left of earlier tests out of the garbage collector: napari calls it per test."""
    gc.collect()
    gc.freeze()
