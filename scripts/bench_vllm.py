"""A vLLM server that draws for a local model, beside the model's own sampler: agreement of every token, and speed.

    python scripts/bench_vllm.py --url http://127.0.0.1:8000 --name base --version 0.32.0
        [--model ID] [--dtype float32] [--prompts 16] [--per-prompt 4] [--tokens 80] [--repeats 3]

configs/vllm.yaml has the server's command. Both sides draw at T = 0.7, on the plain base and under a random LoRA
adapter of rank 16; the server's log-probabilities are compared with the local model's, token by token.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from _bench import prompts, side_by_side
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Completion, Sampling
from dressage.trainers._lora import LoraSettings
from dressage.trainers._lora.adapter import adapted, save

HEAT = 0.7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--per-prompt", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    plain = {"path": options.model, "dtype": options.dtype}
    sampler = {"base_url": options.url, "model": options.name, "version": options.version}
    own, served = (
        open_kind(settings_of("models", "local").model_validate({**plain, "sampler": s})) for s in (None, sampler)
    )
    with tempfile.TemporaryDirectory() as folder:
        adapter = _random_adapter(own.module, Path(folder))
        roles = {
            "own": own,
            "vLLM": served,
            "own, LoRA": own.wearing(adapter),
            "vLLM, LoRA": served.wearing(adapter),
        }
        for name in ("vLLM", "vLLM, LoRA"):
            _agreement(name, roles[name], options)
        sides: dict[str, Callable[[], float]] = {name: _side(model, options) for name, model in roles.items()}
        print(f"{options.prompts * options.per_prompt} rows, {torch.get_num_threads()} threads here, {options.dtype}")
        side_by_side(sides, repeats=options.repeats, unit="tok/s")
        served.close()


def _random_adapter(module: Any, folder: Path) -> Path:
    """Of the size of a trained one: about a tenth of a nat a token."""
    with adapted(module, LoraSettings(r=16), seed=1, start=None) as model, torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.01, generator=torch.Generator(parameter.device).manual_seed(1))
        return save(model, folder / "adapter")


def _drawn(model: Any, options: argparse.Namespace, *, seed: int) -> list[Completion]:
    asked = [p for p in prompts(options.prompts) for _ in range(options.per_prompt)]
    sampling = Sampling(temperature=HEAT, max_new_tokens=options.tokens)
    seeds = [seed * 10**6 + i for i in range(len(asked))]
    drawn = model.complete(asked, sampling=sampling, seeds=seeds, done=lambda index, reply: None)
    if failed := [one for one in drawn if not isinstance(one, Completion)]:
        raise SystemExit(f"{len(failed)} draws failed, for example: {failed[0]}")
    return [one for one in drawn if isinstance(one, Completion)]


def _agreement(name: str, model: Any, options: argparse.Namespace) -> None:
    drawn = _drawn(model, options, seed=0)
    asked = [p for p in prompts(options.prompts) for _ in range(options.per_prompt)]
    ours = model.logprobs(asked, [c.token_ids for c in drawn], temperature=HEAT)
    gaps = [
        abs(a - b) for c, logprobs in zip(drawn, ours, strict=True) for a, b in zip(c.logprobs, logprobs, strict=True)
    ]
    mean, worst = sum(gaps) / len(gaps), max(gaps)
    print(f"{name}: {len(gaps)} tokens, their log-probabilities {mean:.2g} nats apart on average, {worst:.2g} at most")


def _side(model: Any, options: argparse.Namespace) -> Callable[[], float]:
    rounds = iter(range(1, 10**6))

    def side() -> float:
        began = time.monotonic()
        drawn = _drawn(model, options, seed=next(rounds))
        return sum(len(one.token_ids) for one in drawn) / (time.monotonic() - began)

    return side


if __name__ == "__main__":
    main()
