"""Tests that need a card: pytest --card="RTX 5090" --wheel=2.4.1. Without one they are not collected."""

import fakecard
import pytest

collect_ignore_glob = [] if fakecard.here() else ["test_*.py"]


@pytest.fixture(autouse=True)
def fresh_counters():
    """Every test starts with counters at zero and no faults, and leaves no fault behind."""
    fakecard.reset()
    yield
    fakecard.reset()
