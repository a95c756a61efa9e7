"""autocast(policy) against torch.autocast: one step of GPT-2 (4 layers of the small model, 32 tokens) on the CPU."""

import blackwell_compat as bc
import torch
import transformers
from common import Comparison

BF16 = bc.Policy("bf16", anyway=True)

if __name__ == "__main__":
    table = Comparison("autocast")
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=4)).eval()
    ids = torch.arange(32)[None]

    def step(block: object) -> torch.Tensor:
        with torch.inference_mode(), block:  # type: ignore[attr-defined]
            return model(ids).logits

    torch.testing.assert_close(
        step(bc.autocast(BF16)), step(torch.autocast("cpu", torch.bfloat16)), rtol=0.05, atol=0.05
    )
    table.compare(  # a step takes seconds on a CPU without bfloat16 products
        "GPT-2 step", lambda: step(bc.autocast(BF16)), lambda: step(torch.autocast("cpu", torch.bfloat16)), rounds=10
    )
    table.finish()
