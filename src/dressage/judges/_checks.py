"""A deterministic check with a weight: any rule of `_rules_form` or `_rules_words`, told apart by `rule`."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from dressage.judges._fences import clean
from dressage.judges._rules_form import FormRule
from dressage.judges._rules_words import LexicalRule, WordRule
from dressage.records import Ballot, content_hash

Rule = Annotated[FormRule | WordRule, Field(discriminator="rule")]


def marked(rule: Rule, ballot: Ballot) -> float:
    """What the rule gives the one reply of a ballot, in [0, 1]; it looks at what a user would see."""
    (reply,) = ballot.texts
    asked = [m.content for m in ballot.messages if m.role == "user"]
    return rule.score(clean(reply), asked[-1] if asked else "")


def substance_of(rule: Rule) -> str:
    """What a rule decides by: `rule:<kind>`, and for a word list also the hash of its entries."""
    if isinstance(rule, LexicalRule):
        return f"rule:{rule.rule}:{content_hash(sorted({entry.casefold() for entry in rule.lexicon()}))}"
    return f"rule:{rule.rule}"


def all_named(given: Iterable[str], kinds: Iterable[str]) -> list[str]:
    """Names for checks: the one given, else the rule's kind.

    Raises:
        ValueError: two checks would have the same name, and one would overwrite the other.
    """
    names = [name or kind for name, kind in zip(given, kinds, strict=True)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two criteria are called {', '.join(twice)}: give each a `name` of its own")
    return names


def some_weight(weights: Iterable[float]) -> None:
    """Refuses weights that sum to 0, with which every score would be 0/0."""
    if sum(weights) <= 0:
        raise ValueError("the weights sum to 0, so nothing counts: give at least one criterion a weight")
