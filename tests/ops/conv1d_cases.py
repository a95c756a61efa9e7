"""What the tests of compat_conv1d share."""

import reference
import torch

OP = torch.ops.blackwell_compat.compat_conv1d.default
NAMED_PADDING = torch.ops.blackwell_compat.compat_conv1d.padding

# C_in, C_out, K, groups, the rest: a case of each way to compute it
METHODS = {
    "rows": (12, 9, 5, 1, {}),
    "minimal": (36, 33, 4, 1, {"dilation": 2}),
    "few": (24, 3, 5, 1, {"stride": 2}),
    "depthwise": (10, 10, 3, 10, {}),
    "grouped": (12, 20, 3, 4, {"padding": 2}),
}


def make(c_in, c_out, k, length, groups=1, dtype=torch.float32, bias=True, batch=(2,)):
    x = reference.values(*batch, c_in, length, dtype=dtype)
    w = reference.values(c_out, c_in // groups, k, dtype=dtype, seed=1)
    return x, w, reference.values(c_out, dtype=dtype, seed=2) if bias else None


X, W, B = make(4, 6, 3, 10)
