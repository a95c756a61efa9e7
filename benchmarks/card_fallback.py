"""Models whose every op falls back to the CPU, on a fake card, against the same model on the CPU; one thread.

This shows the price of the fallback itself: the fake card's copies are copies in memory, with no bus between. Each
model twice: what the CPU writes is uploaded at once, or lazily.
python benchmarks/card_fallback.py [wheel] starts itself again under the torch of `make wheel-<wheel>`.
"""

import sys
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import fakecard

if __name__ == "__main__":
    fakecard.restart_on("RTX 5090", sys.argv[1] if len(sys.argv) > 1 else "2.4.1", BLACKWELL_COMPAT_FALLBACK="silent")

import blackwell_compat as bc
import torch
import transformers
from common import Comparison


def vits():
    model = transformers.VitsModel(transformers.VitsConfig())
    model.noise_scale = model.noise_scale_duration = 0.0
    return model, {"input_ids": torch.arange(1, 37)[None]}


def gpt2():
    config = transformers.GPT2Config(n_layer=4, n_embd=256, n_head=4, vocab_size=1000)
    return transformers.GPT2LMHeadModel(config), {"input_ids": torch.arange(32)[None]}


def forward(model, inputs):
    """Until the results are on the card."""
    result = model(**inputs)[0]
    torch.cuda.synchronize()
    return result


if __name__ == "__main__":
    torch.set_num_threads(1)
    bc.enable()
    table = Comparison("fallback")
    for make in (vits, gpt2):
        torch.manual_seed(0)
        on_cpu, inputs = make()
        torch.manual_seed(0)
        on_card, _ = make()
        on_cpu.eval()
        on_card.eval().to("cuda")
        moved = {name: value.to("cuda") for name, value in inputs.items()}
        for lazy in (False, True):
            with torch.inference_mode(), bc.lazy_upload() if lazy else nullcontext():
                forward(on_card, moved)
                bc.reset_fallbacks()
                got = forward(on_card, moved)
                copies = bc.fallbacks().totals
                want = on_cpu(**inputs)[0]
                assert (got.cpu() - want).abs().max() <= 1e-5 * want.abs().max()
                table.compare(
                    f"{make.__name__}{', lazy' if lazy else ''}: {copies.to_host} down, {copies.to_device} up",
                    lambda m=on_card, x=moved: forward(m, x),
                    lambda m=on_cpu, x=inputs: m(**x),
                    rounds=10,
                )
    one = torch.ones(1)
    on_card_one = one.to("cuda")
    table.compare("add, 1 element", lambda: on_card_one + on_card_one, lambda: one + one)
    table.finish()
