"""The text protocol of an agentic judge: how a call is written, how results go back, and what is never read as ours.

Marks count only in what the judge's own model wrote, on lines with the nonce of the prompt. What a reply, a prompt or a
tool says reaches it inside fences, with everything that looks like a mark made harmless; it calls nothing, decides
nothing, and cannot end its fence.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dressage.judges import _fences as fences
from dressage.judges._verdicts import tail, words_of
from dressage.maths.characters import changed
from dressage.protocols import Answer, Unreadable
from dressage.records import Ballot
from dressage.tokens import wellformed, without_thinking

MARKS = re.compile(r"\b(?:CALL|CITES|CRITERION)(?=[ \t]*[-‐-―−_][ \t]*[0-9a-f]{4})", re.IGNORECASE)
RESULT_FENCE = re.compile(r"(?<!=)={2,}+(?=[ \t]*(?:END[ \t]+)?(?:RESULT|CRITERIA)\b)", re.IGNORECASE)
HOLDER = "@"
"""How the name of a text begins that stands for it in arguments."""
MOST_CRITERIA = 8
FORM = '{"tool": "NAME", "arguments": {…}, "claim": "WHAT IT DECIDES"}'


@dataclass(frozen=True)
class Wanted:
    """A call that the judge wrote: what for, which tool, with which arguments; or what is wrong with it."""

    claim: str = ""
    tool: str = ""
    arguments: Mapping[str, Any] | None = None
    wrong: str = ""

    def written(self) -> str:
        """The arguments as the judge wrote them, as JSON."""
        return wellformed(json.dumps(dict(self.arguments or {}), ensure_ascii=False))


def spoken(answer: Answer) -> str:
    """What a judge said, its thinking left out.

    Raises:
        Unreadable: it was cut off.
    """
    reply = words_of(answer)
    if reply.finish == "length":
        raise Unreadable(f"the judge ran out of tokens: {tail(reply.text)}")
    return wellformed(without_thinking(reply.text).rpartition("</think>")[2]).strip()


def calls_in(said: str, nonce: str, offered: Sequence[str]) -> list[Wanted]:
    """The calls on lines of their own, in their order; the JSON object may go on over further lines."""
    return [_call(said[end:], offered) for end in _ends(said, "CALL", nonce)]


def cited_in(said: str, nonce: str) -> frozenset[int]:
    """The numbers of the results that the judge says it rests on, from its last line of that kind."""
    ends = _ends(said, "CITES", nonce)
    line = said[ends[-1] :].partition("\n")[0] if ends else ""
    return frozenset(int(number) for number in re.findall(r"\be(\d{1,4})\b", line))


def criteria_in(said: str, nonce: str) -> list[str]:
    """The criteria that the judge wrote for a prompt.

    Raises:
        Unreadable: there is none.
    """
    lines = [said[end:].partition("\n")[0].strip(" \t*_`") for end in _ends(said, "CRITERION", nonce)]
    if not any(lines):
        raise Unreadable(f"no line CRITERION-{nonce}: {tail(said)}")
    return [line for line in lines if line][:MOST_CRITERIA]


def _ends(said: str, tag: str, nonce: str) -> list[int]:
    """Where the marks `TAG-nonce:` at the beginnings of lines end; markdown ornament around them is no matter."""
    mark = rf"^[ \t>#*_`\"'-]*{tag}-{nonce}[ \t*_`]*:[ \t*_`]*"
    return [match.end() for match in re.finditer(mark, said, re.IGNORECASE | re.MULTILINE)]


def _call(text: str, offered: Sequence[str]) -> Wanted:
    try:
        found, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return Wanted(wrong=f"this call is no JSON object; write {FORM} on one line")
    if not isinstance(found, dict) or set(found) != {"tool", "arguments", "claim"}:
        return Wanted(wrong=f"a call has exactly the keys tool, arguments and claim; write {FORM}")
    claim, tool, arguments = found["claim"], found["tool"], found["arguments"]
    if not isinstance(claim, str) or not isinstance(tool, str) or not isinstance(arguments, dict):
        return Wanted(wrong=f"claim and tool are strings, arguments an object; write {FORM}")
    if _deep(arguments):
        return Wanted(wrong=f"the arguments are nested too deep; write {FORM}")
    if tool not in offered:
        return Wanted(
            claim=claim, tool=wellformed(tool[:60]), wrong=f"there is no such tool; there is: {', '.join(offered)}"
        )
    return Wanted(claim=claim, tool=tool, arguments=arguments)


def _deep(value: object) -> bool:
    """Whether values lie in one another more than 20 levels deep."""
    level = [value]
    for _ in range(20):
        level = [i for v in level for i in (v.values() if isinstance(v, dict) else v if isinstance(v, list) else ())]
    return bool(level)


# ---------------------------------------------------------------- texts by name


def texts_of(ballot: Ballot, names: Sequence[str]) -> dict[str, str]:
    """What the names in arguments stand for: the texts as a user sees them, whole."""
    asked = [m.content for m in ballot.messages if m.role == "user"]
    shown = {f"{HOLDER}{name}": fences.clean(text) for name, text in zip(names, ballot.texts, strict=True)}
    return {**shown, f"{HOLDER}prompt": asked[-1] if asked else ""}


def filled(value: Any, texts: Mapping[str, str]) -> Any:
    """Arguments with each string that names a text replaced by it, once."""
    if isinstance(value, str):
        return texts.get(value, value)
    if isinstance(value, list):
        return [filled(item, texts) for item in value]
    return {key: filled(item, texts) for key, item in value.items()} if isinstance(value, dict) else value


# ---------------------------------------------------------------- what the judge is shown


def harmless(text: str) -> str:
    """Text that is already a judge's view, with what reads as a mark of this protocol made harmless as well."""
    text = changed(RESULT_FENCE, lambda mark: "-" * len(mark), text)
    return changed(MARKS, lambda mark: f"(quoted) {mark}", text)


def foreign(text: str, nonce: str, limit: int) -> str:
    """What others wrote, as a judge is shown it; the nonce, which a judge may have handed to a tool, is left out."""
    return re.sub(nonce, "[code]", harmless(fences.view(text, limit, reply=False)), flags=re.IGNORECASE)


def result_of(number: int, text: str, failed: str | None, nonce: str) -> str:
    """One result under its number."""
    told = foreign(text, nonce, len(text) + 1)
    return fences.fenced(f"RESULT e{number}", f"{f'[failed: {failed}] ' if failed else ''}{told}", nonce)
