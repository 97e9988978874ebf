"""Our sampler against transformers' `generate` in static batches of 64: same prompts, lengths, temperature, model.

    python scripts/bench_sampling.py [--model ID] [--prompts 64] [--per-prompt 4] [--tokens 80] [--repeats 5]

Both sides draw at T = 0.7 in float32 and are counted by the tokens they really wrote, up to each row's end.
"""

import argparse
import time

import torch

from _bench import prompts, side_by_side
from dressage import tokens
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Sampling

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--per-prompt", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    model = open_kind(settings_of("models", "local").model_validate({"path": options.model, "dtype": "float32"}))
    asked = [p for p in prompts(options.prompts) for _ in range(options.per_prompt)]
    tokenizer, module = model.tokenizer, model.module
    ids = [tokens.prompt_ids(tokenizer, p) for p in asked]
    ends = set(tokens.end_ids(tokenizer, module.generation_config))
    seeds = iter(range(10**9))

    def static() -> float:
        """Left-padded batches in the order given; a batch ends with its last row."""
        began, written = time.monotonic(), 0
        torch.manual_seed(next(seeds))
        for at in range(0, len(ids), BATCH):
            batch = tokenizer.pad({"input_ids": ids[at : at + BATCH]}, padding_side="left", return_tensors="pt")
            with torch.inference_mode():
                out = module.generate(
                    **batch,
                    do_sample=True,
                    temperature=0.7,
                    top_k=0,
                    top_p=1.0,
                    max_new_tokens=options.tokens,
                    pad_token_id=tokenizer.pad_token_id,
                )
            written += sum(_length(row, ends) for row in out[:, batch["input_ids"].shape[1] :].tolist())
        return written / (time.monotonic() - began)

    def ours() -> float:
        began = time.monotonic()
        drawn = model.complete(
            asked,
            sampling=Sampling(temperature=0.7, max_new_tokens=options.tokens),
            seeds=[next(seeds) for _ in asked],
            done=lambda index, reply: None,
        )
        return sum(len(reply.token_ids) for reply in drawn) / (time.monotonic() - began)

    print(f"{len(asked)} rows, up to {options.tokens} tokens, {torch.get_num_threads()} threads, float32")
    side_by_side({"generate, batches of 64": static, "dressage": ours}, repeats=options.repeats, unit="tok/s")


def _length(row: list[int], ends: set[int]) -> int:
    """Tokens up to and with the first end."""
    return next((i + 1 for i, token in enumerate(row) if token in ends), len(row))


if __name__ == "__main__":
    main()
