"""A fixture for the tests of streams."""

import pytest

import fakecard

from .api import call


@pytest.fixture
def on_time():
    """Before the test and after it nothing is late; what it asked for has been done then."""
    call("cudaSetDevice", 0)
    yield
    fakecard.reset()
    call("cudaDeviceSynchronize")
    fakecard.change(latency_ms=0, bus_gb_per_s=0)
