"""Fixtures for the tests of patched models."""

import pytest
import torch


@pytest.fixture
def no_grad():
    torch.manual_seed(0)
    with torch.no_grad():
        yield
