"""Text from a language model with its KV cache, before and after patch_model: the same tokens, more of them a second.

pip install '.[llm]'
python examples/llm.py                                       # a small Qwen2 with random weights, nothing is downloaded
python examples/llm.py --model Qwen/Qwen2.5-0.5B-Instruct    # or a folder with one that you have
python examples/llm.py --device cuda --cache static --dtype bfloat16 --full
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from measure import before_and_after, device_of, options, show_speed, warm_up
from rich import print
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

PROMPT = "A graphics card that is too new for this build of PyTorch"
SMALL: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 32000,
}
FULL: dict[str, Any] = {  # Qwen2.5-0.5B
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}


def make(name: str | None, full: bool) -> tuple[Any, Any, torch.Tensor]:
    """The model, its tokenizer or None, and a prompt."""
    if name is not None:
        tokenizer = AutoTokenizer.from_pretrained(name)
        return AutoModelForCausalLM.from_pretrained(name), tokenizer, tokenizer(PROMPT, return_tensors="pt").input_ids
    torch.manual_seed(0)
    config = Qwen2Config(**(FULL if full else SMALL))
    return Qwen2ForCausalLM(config), None, torch.randint(config.vocab_size, (1, 16))


def main(given: Sequence[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--tokens", type=int, default=48, help="how many are generated")
    parser.add_argument("--cache", choices=["dynamic", "static"], default="dynamic", help="of keys and values")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    arguments = parser.parse_args(given)
    model, tokenizer, prompt = make(arguments.model, arguments.full)
    before, after = before_and_after(model.to(getattr(torch, arguments.dtype)).eval(), arguments)
    warm_up(after, prompt.to(device_of(after)))

    @torch.inference_mode()
    def generate(model: Any) -> torch.Tensor:
        ids = prompt.to(device_of(model))
        made: torch.Tensor = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=arguments.tokens,
            max_new_tokens=arguments.tokens,
            cache_implementation="static" if arguments.cache == "static" else None,
            pad_token_id=0,
        )
        return made[0, ids.shape[1] :].cpu()

    with torch.inference_mode():
        logits = [model(prompt.to(device_of(model))).logits.cpu().float() for model in (before, after)]
    print(f"largest difference of a logit: {(logits[0] - logits[1]).abs().max():.1e} of {logits[0].abs().max():.1f}")
    tokens, wanted = generate(after), generate(before)
    print(tokenizer.decode(tokens) if tokenizer else f"token ids {tokens[:8].tolist()} ...")
    same = int((tokens == wanted).long().cumprod(0).sum())
    print(f"the same tokens: {same} of {len(wanted)}, with a {arguments.cache} cache")
    show_speed(before, after, generate, arguments.rounds, len(tokens), "tokens")
    if same < len(wanted) and arguments.dtype == "float32":
        raise SystemExit("llm.py: patching changed a token")


if __name__ == "__main__":
    main()
