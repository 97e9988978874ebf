"""What a stage's rows say against it: few preferences, a reward that never varies; good ones are left alone."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from dressage.doubts import doubts
from dressage.records import Grade, Message, Preference, Prompt, Record, Split
from dressage.store import Manifest, Shard, commit_shard


def grade(prompt: str, candidate: str, score: float = 0.5) -> Grade:
    return Grade(prompt_id=prompt, candidate_id=candidate, judge="j", score=score)


def pair(prompt: str) -> Preference:
    return Preference(prompt_id=prompt, chosen="a", rejected="b", margin=0.1)


def shard(place: Path, name: str, *rows: Record) -> Shard:
    kinds: dict[type[Record], Sequence[Record]] = {
        kind: [r for r in rows if type(r) is kind] for kind in dict.fromkeys(map(type, rows))
    }
    return commit_shard(place, name, key="k", tables=kinds)


def told(place: Path, *shards: Shard) -> list[str]:
    finished = Manifest(stage=place.name, fingerprint="f", parts={}, shards=shards, rows_hash="h", facts={}, times={})
    return list(doubts(place, finished))


@pytest.mark.parametrize(("pairs", "doubtful"), [(0, True), (1, True), (2, False), (20, False)])
def test_preferences_from_under_a_tenth_of_the_prompts_are_doubted(tmp_path: Path, pairs: int, doubtful: bool) -> None:
    place = tmp_path / "judge"
    labels = [grade(f"p{i}", side) for i in range(20) for side in "ab"]
    said = told(place, shard(place, "00000", *labels, *(pair(f"p{i}") for i in range(pairs))))
    assert [line.partition(":")[0] for line in said] == [f"its preferences come from {pairs} of 20 prompts"] * doubtful


def asked(text: str, split: Split) -> Prompt:
    return Prompt.of((Message(role="user", content=text),), source="test", split=split)


def test_prompts_that_could_give_no_pair_do_not_count(tmp_path: Path) -> None:
    """One candidate makes no pair, and a held-out prompt may make none."""
    place, held = tmp_path / "judge", [asked(f"question {i}", "test") for i in range(20)]
    single = [grade(f"one{i}", "a") for i in range(20)]
    away = [grade(p.id, side) for p in held for side in "ab"]
    assert told(place, shard(place, "00000", *held, *single, *away, grade("p", "a"), grade("p", "b"), pair("p"))) == []
    assert told(place) == []  # on policy judge labels nothing


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([(0.5, 0.5), (0.5, 0.5)], ["the judge gave all replies the same grade (0.5), so there was nothing to learn"]),
        ([(0.5, 0.5), (1, 1)], ["the judge gave all replies the same grade within an update, so there was nothing to"]),
        ([(0.5, 0.5), (0.5, 0.6)], []),
        ([(0.5,), (0.6,)], []),
        ([(), ()], []),
    ],
    ids=["always", "in each update", "once it varied", "one reply an update", "no grade at all"],
)
def test_a_reward_that_never_varies_is_doubted(tmp_path: Path, scores: list[tuple[float]], said: list[str]) -> None:
    place = tmp_path / "train"
    updates = [
        shard(place, f"update-{u:05d}", *(grade("p", f"c{u}{i}", score) for i, score in enumerate(of)))
        for u, of in enumerate(scores)
    ]
    watched = shard(place, "watch-before", grade("p", "w", 0.1), grade("p", "v", 0.9))
    found = told(place, *updates, watched)
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))
