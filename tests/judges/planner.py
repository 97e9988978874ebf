"""A script in the place of a judge's model, for the written pairs that can be checked. Not a judge, and no judgement.

For each prompt it knows which call to make and what the replies claim, and never which of them is right: what it
decides it reads off the results that come back. Without tools it takes the longer reply. So it shows that the tools
decide; whether a model plans that well is another question.
"""

import json
import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from dressage.protocols import Completion, Conversation, Distribution, Done, Sampling, Trouble, Vector
from dressage.records import Usage

Row = dict[str, Any]
MARK = re.compile(r"VERDICT-([0-9a-f]{8})")
NUMBERS = {3: "three", 5: "five", 6: "six"}


class Planner:
    """See protocols.Model; `asked` counts its answers."""

    fingerprint = "a script that plans"
    paid = True

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = {row["prompt"]: row for row in rows}
        self.asked = 0
        self.dies_after: int | None = None

    def complete(
        self, conversations: Sequence[Conversation], *, sampling: Sampling, seeds: Sequence[int], done: Done
    ) -> list[Completion | Trouble]:
        answers: list[Completion | Trouble] = []
        for index, conversation in enumerate(conversations):
            if self.asked == self.dies_after:
                raise KeyboardInterrupt
            self.asked += 1
            text = self._said([m.content for m in conversation])
            answers.append(Completion(text=text, finish="stop", usage=Usage(read=10, written=5)))
            done(index, answers[-1])
        return answers

    def label_probabilities(
        self, conversations: Sequence[Conversation], labels: Sequence[tuple[str, ...]], *, done: Done
    ) -> list[Distribution | Trouble]:
        raise NotImplementedError

    def embed(self, texts: Sequence[str], *, done: Done) -> list[Vector | Trouble]:
        raise NotImplementedError

    def prompt_tokens(self, conversation: Conversation) -> int | None:
        return None

    def context(self) -> int | None:
        return None

    def close(self) -> None:
        """Nothing is open."""

    def _said(self, turns: list[str]) -> str:
        nonce = MARK.findall(turns[0])[-1]
        replies = [_part(turns[0], f"{which} REPLY", nonce) for which in ("FIRST", "SECOND")]
        row = self._rows[_part(turns[0], "CONVERSATION", nonce).partition("\n")[2]]
        if len(turns) == 1:
            if f"CALL-{nonce}" not in turns[0]:
                return f"VERDICT-{nonce}: {'first' if len(replies[0]) > len(replies[1]) else 'second'}"
            return "\n".join(f"CALL-{nonce}: {json.dumps(call)}" for call in _calls(row["verify"]))
        results = [_part(turns[-1], f"RESULT e{n}", nonce) for n in (1, 2) if f"RESULT e{n}" in turns[-1]]
        first, second = _found(row["verify"], results, replies)
        if first == second:
            return "The results do not decide."
        return f"CITES-{nonce}: e1\nVERDICT-{nonce}: {'first' if first else 'second'}"


def _part(text: str, name: str, nonce: str) -> str:
    return text.partition(f"=== {name} {nonce} ===\n")[2].partition(f"\n=== END {name} {nonce} ===")[0]


def _calls(verify: Row) -> list[Row]:
    tool, claim = verify["tool"], "what the replies say differently"
    if tool == "retrieve":
        arguments: list[Row] = [{"query": verify["query"], "most": 1}]
    elif tool == "constraints" and "text" in verify:
        arguments = [{"text": verify["text"], "checks": [verify["check"]]}]
    elif tool == "constraints":
        arguments = [{"text": text, "checks": verify["checks"]} for text in ("@first", "@second")]
    elif verify["value"] == "true":
        left = verify["expression"].rpartition("=")[0]
        arguments = [{"expression": f"{left}= {said}"} for said in sorted((verify["right"], verify["wrong"]))]
    else:
        arguments = [{"expression": verify["expression"]}]
    return [{"tool": tool, "arguments": each, "claim": claim} for each in arguments]


def _found(verify: Row, results: list[str], replies: list[str]) -> list[bool]:
    """Of each reply, whether the results bear out what it says."""
    if verify["tool"] == "constraints" and "text" not in verify:
        return [_all_hold(result) for result in results]
    claims = sorted((verify["right"], verify["wrong"]))
    if verify["tool"] == "retrieve":
        passage = _plain(" ".join(results[0].replace("\n| ", " ").split()))
        borne_out = [c for c in claims if _says(passage, _plain(c))]
    elif len(results) == 2:
        borne_out = [c for c, result in zip(claims, results, strict=True) if ": true" in result]
    else:
        borne_out = [c for c in claims if any(_says(c.replace(",", ""), form) for form in _forms(results[0]))]
    return [any(_says(reply, c) for c in borne_out) for reply in replies]


def _plain(text: str) -> str:
    return re.sub(r"(?<=\d),(?=\d{3})", "", text.casefold())


def _all_hold(result: str) -> bool:
    hold, of = re.findall(r"^(\d+) of (\d+) hold", result)[0]
    return bool(hold == of)


def _forms(result: str) -> list[str]:
    """How a reply may write what the calculator or the counting gave."""
    left, _, value = re.split(r"(= |≈ |holds: \D*)(?=\d|[A-Z][a-z]+day)", result.splitlines()[-1], maxsplit=1)
    value = value.split()[0].rstrip(",;:")
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        day = date.fromisoformat(value)
        return [f"{day.day} {day:%B %Y}"]
    words = [NUMBERS[int(value)], NUMBERS[int(value)].capitalize()] if value.isdigit() and int(value) in NUMBERS else []
    return [value, f"{value}0", f"{value}.00", left.strip().replace("*", "×"), *words]


def _says(text: str, phrase: str) -> bool:
    """Whether a text has a phrase with no letter or digit running on at either end of it."""
    return re.search(rf"(?<![\w.,]){re.escape(phrase)}(?![\w]|[.,]\d)", text) is not None
