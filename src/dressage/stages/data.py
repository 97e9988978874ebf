"""Prepare prompts, draw candidates. Reads a source and the policy; writes prompts, candidates, failures."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from pydantic import JsonValue

from dressage.engines.failing import Tally
from dressage.engines.sampling import Drawn, Role, draw, drawing
from dressage.plugins import open_kind
from dressage.protocols import Model
from dressage.records import Candidate, Failure, Message, Prompt, Split
from dressage.settings import DataSection
from dressage.sources._columns import prompt_of
from dressage.sources._rows import deduplicated, read
from dressage.stages._stage import Here, Outcome, StageError, Tables, in_groups, sharded, split
from dressage.store import Shard, rows_in
from dressage.tokens import without_thinking

NEAR_EMPTY_WORDS = 3
"""A reply of fewer words is counted as near-empty."""


Enough = Callable[[Mapping[Split, int]], None]
"""Refuses too few prompts of a split, before anything is drawn from those there are."""


def run(here: Here, settings: DataSection, *, policy: str, enough: Enough) -> Outcome:
    """Prompts that fit, in their splits; `per_prompt` candidates of each training prompt and each model."""
    prompts, counts = _prompts(here, settings, policy, enough)
    training = [p for p in prompts if p.split == "train"] if settings.per_prompt else []
    rest = [p for p in prompts if p.split != "train"] if settings.per_prompt else list(prompts)
    groups = in_groups(training, settings.shard_prompts)
    writers = (policy, *settings.also)
    found = split(here, groups, ids=_id)
    draws = len(training) * settings.per_prompt
    failed = list(rows_in(here.folder, found.done, Failure))
    tallies = [
        Tally(drawing(name), total=draws, at_most=settings.max_failures, limit="data.max_failures") for name in writers
    ]
    for tally in tallies:
        tally.add(failed)
    total = sum(len(g) for g in found.waiting) * settings.per_prompt * len(writers)
    with here.progress.task("sampling candidates", total) as advance:
        work = _sampler(here, settings, writers, tallies, advance)
        shards = sharded(here, [*groups, *([rest] if rest else [])], ids=_id, work=work)
    return Outcome(shards, {**counts, **_facts(here, shards)})


def _id(prompt: Prompt) -> str:
    return prompt.id


def _sampler(
    here: Here,
    settings: DataSection,
    writers: Sequence[str],
    tallies: Sequence[Tally],
    advance: Callable[[int], None],
) -> Callable[[Sequence[Prompt]], Tables]:
    journal = here.journal()

    def work(prompts: Sequence[Prompt]) -> Tables:
        drawn = Drawn([], [])
        for name in writers if prompts[0].split == "train" and settings.per_prompt else ():
            role = Role(name, here.cast.model(name), (here.seed, "data", here.round))
            one = draw(
                role,
                prompts,
                per_prompt=settings.per_prompt,
                sampling=settings.sampling,
                journal=journal,
                advance=advance,
            )
            drawn.candidates.extend(one.candidates)
            drawn.failures.extend(one.failures)
        for tally in tallies:
            tally.add(drawn.failures)
        return {Prompt: prompts, Candidate: drawn.candidates, Failure: drawn.failures}

    return work


def _prompts(
    here: Here, settings: DataSection, policy: str, enough: Enough
) -> tuple[list[Prompt], dict[str, JsonValue]]:
    """The prompts of this run in an order of their own (by id), and what was left out."""
    got = read(settings.source, open_kind(settings.source), convert=prompt_of)
    unique, doubled = deduplicated(_introduced(p, settings.system) for p in got.made)
    if unique:
        enough(Counter(p.split for p in _capped(unique, settings)))  # before a large model is loaded
    model: Model = here.cast.model(policy)
    fitting = [p for p in unique if _fits(p, model, settings.sampling.max_new_tokens)]
    kept = sorted(_capped(fitting, settings), key=_id)
    if not kept:
        raise StageError(
            f"data.source gave no prompt that can be used: {len(got.made)} read, {doubled} doubled, "
            f"{len(unique) - len(fitting)} too long for the context of {policy!r}; look at data.source and data.at_most"
        )
    splits = Counter(p.split for p in kept)
    enough(splits)
    return kept, {
        "prompts": len(kept),
        **{f"prompts_{split}": splits[split] for split in ("train", "dev", "test")},
        "prompts_doubled": doubled,
        "prompts_too_long": len(unique) - len(fitting),
        "rows_unreadable": len(got.bad),
        "prompts_over_cap": len(fitting) - len(kept),
    }


def _introduced(prompt: Prompt, system: str | None) -> Prompt:
    """The prompt with the run's system message, unless it has its own."""
    if system is None or prompt.messages[0].role == "system":
        return prompt
    fields = {name: getattr(prompt, name) for name in ("source", "split", "tags", "reference", "extra")}
    return Prompt.of((Message(role="system", content=system), *prompt.messages), **fields)


def _fits(prompt: Prompt, model: Model, reply: int) -> bool:
    """Whether a prompt and a reply of full length fit the context; never cut in silence."""
    context, tokens = model.context(), model.prompt_tokens(prompt.messages)
    return context is None or tokens is None or tokens + reply <= context


def _capped(prompts: Iterable[Prompt], settings: DataSection) -> list[Prompt]:
    """At most so many of each split; the ids decide which, so a longer source keeps its old ones' order."""
    kept, taken = [], Counter[str]()
    for prompt in sorted(prompts, key=_id):
        if taken[prompt.split] < settings.at_most.get(prompt.split, 10**12):
            taken[prompt.split] += 1
            kept.append(prompt)
    return kept


def _facts(here: Here, shards: Sequence[Shard]) -> dict[str, JsonValue]:
    """Counts over all candidates, read back from the shards so that a resumed run says the same."""
    candidates = list(rows_in(here.folder, shards, Candidate))
    failures = Counter(f.reason for f in rows_in(here.folder, shards, Failure))
    texts = [without_thinking(c.text) for c in candidates]
    seen = Counter((c.prompt_id, t.strip()) for c, t in zip(candidates, texts, strict=True))
    return {
        "candidates": len(candidates),
        "near_empty": sum(len(t.split()) < NEAR_EMPTY_WORDS for t in texts),
        "reached_token_limit": sum(c.finish == "length" for c in candidates),
        "duplicate_candidates": sum(n - 1 for n in seen.values()),
        **{f"failed draws: {reason}": n for reason, n in failures.items()},
        "tokens_drawn": sum(len(c.token_ids) for c in candidates),
    }
