"""Judging pointwise by log-probabilities against judging by 64 generated tokens, on ballots of up to 340 tokens.

    python scripts/bench_judging.py [--model ID] [--ballots 32] [--repeats 5]

The three sides read the very same questions: `generate` in static batches of 64, our own sampler, one forward pass.
Every ballot is another prompt, so nothing but the judge's template is shared between them.
"""

import argparse
import time

import torch

from _bench import prompts, side_by_side
from dressage import tokens
from dressage.plugins import open_kind, settings_of
from dressage.protocols import JudgeTools, Labels, Sampling
from dressage.records import Ballot, Message

WRITTEN = 64
LONGEST = 340
FILLER = (
    "Thank you for telling us. I have looked at what you wrote and will see to it today; you will hear from me before "
    "six. If anything changes in the meantime, reply to this message and it reaches me directly. "
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--ballots", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    model = open_kind(settings_of("models", "local").model_validate({"path": options.model, "dtype": "float32"}))
    settings = settings_of("judges", "pointwise").model_validate({"model": "m"})
    judge = open_kind(settings, tools=JudgeTools("bench", {}, lambda name: True))
    shortest = sorted((p[-1:] for p in prompts(250)), key=lambda p: len(p[0].content))[: options.ballots]
    questions = [_question(judge, model, p, i) for i, p in enumerate(shortest)]
    longest = max(model.prompt_tokens(q.messages) for q in questions)
    print(f"{len(questions)} ballots of up to {longest} tokens, {torch.get_num_threads()} threads, float32")
    seeds = list(range(len(questions)))

    def generated() -> float:
        began = time.monotonic()
        ids = [tokens.prompt_ids(model.tokenizer, q.messages) for q in questions]
        for at in range(0, len(ids), 64):
            batch = model.tokenizer.pad({"input_ids": ids[at : at + 64]}, padding_side="left", return_tensors="pt")
            with torch.inference_mode():
                model.module.generate(
                    **batch,
                    do_sample=True,
                    temperature=0.7,
                    min_new_tokens=WRITTEN,
                    max_new_tokens=WRITTEN,
                    pad_token_id=model.tokenizer.pad_token_id,
                )
        return len(questions) / (time.monotonic() - began)

    def sampled() -> float:
        began = time.monotonic()
        sampling = Sampling(temperature=0.7, max_new_tokens=WRITTEN)
        model.complete([q.messages for q in questions], sampling=sampling, seeds=seeds, done=lambda i, a: None)
        return len(questions) / (time.monotonic() - began)

    def read() -> float:
        began = time.monotonic()
        model.label_probabilities(
            [q.messages for q in questions], [q.labels for q in questions], done=lambda i, a: None
        )
        return len(questions) / (time.monotonic() - began)

    side_by_side(
        {"generate, 64 tokens": generated, "our sampler, 64 tokens": sampled, "log-probabilities": read},
        repeats=options.repeats,
        unit="ballots/s",
    )


def _question(judge: object, model: object, prompt: tuple[Message, ...], number: int) -> Labels:
    """A ballot whose rendered question comes as near to LONGEST tokens as its number asks for."""
    wanted = LONGEST - 7 * (number % 8)
    text = FILLER.split(". ")[0] + "."
    question: Labels | None = None
    while True:
        (longer,) = judge.ask(Ballot(messages=prompt, texts=(text,)))  # type: ignore[attr-defined]
        if question is not None and model.prompt_tokens(longer.messages) > wanted:  # type: ignore[attr-defined]
            return question
        question, text = longer, text + " " + FILLER.split(". ")[number % 3] + ". "


if __name__ == "__main__":
    main()
