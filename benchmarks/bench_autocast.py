"""autocast(policy) against torch.autocast: one step of GPT-2 (4 layers of the small model, 32 tokens) on the CPU.

Then the model patched by that policy, which enters it at each call, against torch.autocast around each call.
"""

import contextlib
import copy

import blackwell_compat as bc
import torch
import transformers
from common import Comparison

BF16 = bc.Policy("bf16", anyway=True)

if __name__ == "__main__":
    table = Comparison("autocast")
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=4)).eval()
    patched = copy.deepcopy(model)
    bc.patch_model(patched, policy=BF16)
    ids = torch.arange(32)[None]

    def step(model: torch.nn.Module, block: contextlib.AbstractContextManager[object]) -> torch.Tensor:
        with torch.inference_mode(), block:
            return model(ids).logits

    def by_torch() -> torch.Tensor:
        return step(model, torch.autocast("cpu", torch.bfloat16))

    ours = {
        "GPT-2 step": lambda: step(model, bc.autocast(BF16)),
        "GPT-2 step, patched": lambda: step(patched, contextlib.nullcontext()),
    }
    for name, by_us in ours.items():
        torch.testing.assert_close(by_us(), by_torch(), rtol=0.05, atol=0.05)
        table.compare(name, by_us, by_torch, rounds=10)  # a step takes seconds on a CPU without bfloat16 products
    table.finish()
