"""A patched model whose weights exist in packed form only, and how it is compared with a plain one."""

import blackwell_compat as bc
import torch
from patching_models import Mixed, twin

WEIGHTS = ["lin", "conv", "up", "causal", "out"]


def freed_pair():
    model = Mixed()
    plain = twin(model)
    report = bc.patch_model(model, free_original=True)
    assert report.freed == WEIGHTS
    return model, plain


def same_state(got, want):
    got, want = got.state_dict(), want.state_dict()
    assert list(got) == list(want)
    assert got._metadata.keys() == want._metadata.keys()
    for key, value in want.items():
        assert got[key].dtype == value.dtype
        assert got[key].stride() == value.stride()
        torch.testing.assert_close(got[key], value, rtol=0, atol=0, msg=key)
