"""The fallback for the test files that ask for it."""

import pytest


@pytest.fixture(scope="module")
def fallback():
    """Every op of the card on the CPU, for a module; afterwards the dispatcher is as it was."""
    import blackwell_compat as bc

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLACKWELL_COMPAT_FALLBACK", "silent")
        with bc.enabled():
            yield bc
