"""Objects are brought to a size that the network knows, or left as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.size_match import COMFORTABLE_DIAMETERS, SizeMatch

diameters = st.floats(1.0, 500.0)


@given(diameters, diameters)
def test_a_trained_model_sees_objects_at_its_own_size(painted: float, known: float) -> None:
    match = SizeMatch(known, known)
    assert match.network_diameter(painted) == known
    if 1 / 20 < known / painted < 20:
        assert match.scale(painted) * painted == pytest.approx(known, rel=0.06)
    assert 1 / 20 <= match.scale(painted) <= 20


@given(diameters)
def test_a_new_network_leaves_comfortable_sizes_alone(painted: float) -> None:
    low, high = COMFORTABLE_DIAMETERS
    match = SizeMatch(low, high)
    seen = match.scale(painted) * painted
    if low <= painted <= high:
        assert match.scale(painted) == 1
    elif 1 / 20 < low / painted and high / painted < 20:
        assert low / 1.06 < seen < high * 1.06
    assert low <= match.network_diameter(painted) <= high


@given(diameters, st.floats(10.0, 50.0))
def test_the_users_diameter_stands_for_the_painted_one(painted: float, own: float) -> None:
    assert SizeMatch(25, 25, given=own).scale(painted) == SizeMatch(25, 25).scale(own)


def test_changes_of_a_few_percent_and_unknown_sizes_are_left() -> None:
    match = SizeMatch(20, 20)
    assert match.scale(None) == match.scale(20 * 1.04) == match.scale(20 / 1.04) == 1
    assert match.scale(20 * 1.06) == 1 / 1.06
    assert np.isclose(match.scale(10), 2)
