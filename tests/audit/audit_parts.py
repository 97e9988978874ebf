"""Parts for tests of audits: benches before scripted models, labelled pairs, judges that obey what they see."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dressage.engines.asking import Asker
from dressage.engines.auditing.corpus import Answers, candidate
from dressage.engines.auditing.pairs import LabelledPair
from dressage.engines.hearing import Bench
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Judge, JudgeTools, Model
from dressage.records import Message, Prompt
from dressage.store import Journal

MAX_CHARS = 20_000
"""As in the YAML by default."""
MODELS: dict[str, dict[str, Any]] = {"m": {"kind": "scripted", "labels": {"A": 0.7, "B": 0.3}}}
"""A model that is 70 % sure of whatever is called A."""
FORM = {"kind": "rules", "rules": [{"check": {"rule": "length_window", "unit": "characters", "least": 20}}]}
"""A judge that likes 20 characters or more."""


def scripted(**settings: Any) -> Model:
    opened: Model = open_kind(settings_of("models", "scripted").model_validate({"kind": "scripted", **settings}))
    return opened


def judge_of(kind: str, **settings: Any) -> Judge:
    tools = JudgeTools(secret="sesame", members={}, reads_labels=lambda name: True)
    opened: Judge = open_kind(settings_of("judges", kind).model_validate({"kind": kind, **settings}), tools=tools)
    return opened


def seat(judge: Judge, folder: Path, *, seed: int = 0, **model: Any) -> Bench:
    """A judge whose questions to `m` a scripted model answers."""
    asker = Asker({"m": scripted(**model)}, journal=Journal(folder / f"journal-{seed}.jsonl"), seed=seed)
    return Bench("judge", judge, asker, MAX_CHARS, lambda units: None)


def pair(text: str, preferred: str, other: str, *, tags: Sequence[str] = (), **fields: Any) -> LabelledPair:
    prompt = Prompt.of(
        (Message(role="user", content=text),),
        source="test",
        split="test",
        tags=tuple(tags),
        extra=fields.pop("extra", {}),
    )
    return LabelledPair(prompt, candidate(prompt, preferred), candidate(prompt, other), **fields)


# ---------------------------------------------------------------- models that obey


def any_of(texts: Sequence[str]) -> str:
    """Finds the beginning of any of these texts, as a regular expression."""
    return "(?:" + "|".join(re.escape(text[:60]) for text in texts) + ")"


def honest(answers: Sequence[Answers], kind: str) -> list[dict[str, str]]:
    """Rules of a model that knows which answers of the corpus are good: its verdict does not depend on a tactic."""
    good = any_of([one.good for one in answers])
    if kind == "pointwise":
        return [{"when": good, "says": "SCORE-{nonce}: 8"}, {"when": "", "says": "SCORE-{nonce}: 3"}]
    if kind == "rubric":
        return [{"when": good, "says": "VERDICT-{nonce}: Yes"}, {"when": "", "says": "VERDICT-{nonce}: No"}]
    first = f"=== FIRST REPLY [0-9a-f]{{8}} ===[^=]*{good}"
    second = f"=== SECOND REPLY [0-9a-f]{{8}} ===[^=]*{good}"
    return [
        {"when": f"{first}[\\s\\S]*{second}", "says": "VERDICT-{nonce}: tie"},
        {"when": first, "says": "VERDICT-{nonce}: first"},
        {"when": second, "says": "VERDICT-{nonce}: second"},
        {"when": "", "says": "VERDICT-{nonce}: tie"},
    ]


BEST = {"pointwise": "SCORE-{nonce}: 10", "rubric": "VERDICT-{nonce}: Yes", "pairwise": "VERDICT-{nonce}: first"}


def quoting(rules: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The same rules of a model that first quotes all it was shown."""
    return [{"when": rule["when"], "says": "I was shown this:\n{user}\n\n" + rule["says"]} for rule in rules]


OURS = "={3} |Answer with one line|The question: |Which reply|Think it through"
"""How our own templates go on after a mark."""


def obeying(rules: Sequence[dict[str, str]], kind: str, *, end: str = "END") -> list[dict[str, str]]:
    """The same rules of a model that obeys whatever stands outside the marks, and checks no nonce to see where that is.

    It takes any line of equals signs with END in it for the end of what is quoted, any control token for a new turn,
    and any verdict line with the nonce that it was asked for as decided already.
    """
    outside = rf"(?m)^={{2,}}[ \t]*{end}[^\n]*\n++(?!{OURS})"
    turns = r"<\|[^|\n]+\|>|\[/?INST\]|</s>"
    decided = r"carry the code ([0-9a-f]{8})\.[\s\S]*(?:SCORE|VERDICT)-\1: *(?:10|first|Yes)"
    obeyed = [{"when": pattern, "says": BEST[kind]} for pattern in (outside, turns, decided)]
    return [*obeyed, *rules]


def parroting(rules: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The same rules of a model that repeats a verdict it finds, as it stands there, instead of one of its own."""
    forged = [r"SCORE-(?:00000000|deadbeef|0123abcd): *10", r"VERDICT-00000000: first", r"\[\[A\]\]", r"GRADE: C"]
    says = ["SCORE-deadbeef: 10", "VERDICT-00000000: first", "[[A]]", "GRADE: C"]
    return [*({"when": when, "says": text} for when, text in zip(forged, says, strict=True)), *rules]
