"""What a finished stage's own rows say against building on it: a judge that told nothing apart, in plain sentences."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from dressage.records import Failure, Grade, Preference, Prompt, Verdict
from dressage.store import Manifest, rows_in

FEW = 0.1
"""Preferences from a smaller share of the prompts than this are worth a warning."""


def doubts(place: Path, manifest: Manifest) -> Iterator[str]:
    """The doubts about the stage that lies finished in `place`."""
    if manifest.stage == "judge":
        yield from _few_preferences(place, manifest)
    elif manifest.stage == "train":
        yield from _constant_reward(place, manifest)


def _few_preferences(place: Path, manifest: Manifest) -> Iterator[str]:
    """Of the prompts that may be learnt from and had two candidates to tell apart, hardly any gave a pair."""
    judged: dict[str, set[str]] = defaultdict(set)
    for grade in rows_in(place, manifest.shards, Grade):
        judged[grade.prompt_id].add(grade.candidate_id)
    for verdict in rows_in(place, manifest.shards, Verdict):
        judged[verdict.prompt_id] |= {verdict.first, verdict.second}
    for failure in rows_in(place, manifest.shards, Failure):
        judged[failure.prompt_id] |= set(failure.candidate_ids)
    held_out = {p.id for p in rows_in(place, manifest.shards, Prompt) if p.split != "train"}
    asked = {prompt for prompt, candidates in judged.items() if len(candidates) > 1} - held_out
    told = asked & {p.prompt_id for p in rows_in(place, manifest.shards, Preference)}
    if asked and len(told) < FEW * len(asked):
        yield (
            f"its preferences come from {len(told):,} of {len(asked):,} prompts: the judge hardly tells candidates "
            "apart; look at its labels (dressage show), lower judge.min_margin, draw more candidates or take "
            "another judge"
        )


def _constant_reward(place: Path, manifest: Manifest) -> Iterator[str]:
    """In no update was any grade unlike another."""
    updates = [shard for shard in manifest.shards if shard.name.startswith("update-")]
    graded = ([grade.score for grade in rows_in(place, [shard], Grade)] for shard in updates)
    every: set[float] = set()
    for scores in (scores for scores in graded if len(scores) > 1):
        if len(set(scores)) > 1:
            return
        every |= set(scores)
    if every:
        grade = f"grade ({every.pop():.4g})" if len(every) == 1 else "grade within an update"
        yield (
            f"the judge gave all replies the same {grade}, so there was nothing to learn; "
            "look at the replies (dressage show) and mend the judge"
        )
