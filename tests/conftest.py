"""Shared fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real annotated images; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real annotated images (../shared/data) are not here")
    return SHARED_DATA.resolve()


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Let the operating system refuse files above 4 KiB, as a full disk does."""
    resource = pytest.importorskip("resource", reason="limits of file sizes are a Unix feature")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
