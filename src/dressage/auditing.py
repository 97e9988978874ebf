"""What the verb `audit` does: which judges, against which pairs, where to; writes each judge's card as JSON.

audits/<run>/<judge>/card.json · index.html · journal.jsonl (paid answers)      audits/<run>/spending.jsonl
"""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dressage.accounts import Accounts
from dressage.cards import Card
from dressage.fingerprints import with_members
from dressage.floors import refuse, rulings
from dressage.plugins import meant, settings_of
from dressage.protocols import ModelSettings, Progress, Settings, SourceSettings
from dressage.records import content_hash
from dressage.settings import Floors, JudgeSection, RunSettings
from dressage.store import commit_json, locked

if TYPE_CHECKING:
    from dressage.stages._auditing import Evidence, Subject
    from dressage.stages._stage import Cast

CODE = 1
"""Raised when the meaning of a card changes."""


class AuditError(ValueError):
    """An audit that cannot be made; says why and the way out."""


@dataclass(frozen=True)
class Wanted:
    """What somebody who audits asks for."""

    judges: tuple[str, ...] = ()
    """Names in `judges:`; none: the training judge, or all where there is none."""
    pairs: str | None = None
    """A file of labelled pairs, instead of judge.floors.pairs."""
    at_most: int | None = None
    """So many of the pairs; null: as judge.floors says, or all."""
    red_team: int | None = None
    """So many prompts of the red-team corpus; null: all."""


def folder_of(out: Path, judge: str) -> Path:
    """Where a judge's card lies; a name that is no plain word becomes its hash."""
    return out / (judge if re.fullmatch(r"\w[\w.-]*", judge) else content_hash(judge))


def audit(settings: RunSettings, wanted: Wanted, out: Path, *, progress: Progress) -> Iterator[Card]:
    """The card of every judge that is asked for, each written as soon as it is made.

    Raises:
        AuditError: there is no such judge, or a model cannot be used here.
        SourceError: the pairs cannot be read.
    """
    names = _judges(settings, wanted)
    for name in names:
        _usable(settings, name)
    from dressage.stages._stage import Cast

    floors = settings.judge.floors if settings.judge else None
    evidence = _evidence(
        _source(wanted, floors), wanted.at_most or (floors.at_most if floors else None), wanted.red_team
    )
    with locked(out):
        accounts = Accounts(out / "spending.jsonl")
        cast = Cast(settings.models, settings.judges, seed=settings.seed, accounts=accounts, tools=settings.tools)
        with closing(cast):
            for name in names:
                yield _audited(settings, cast, evidence, folder_of(out, name), judge=name, progress=progress)


def cleared(settings: RunSettings, cast: "Cast", folder: Path, *, progress: Progress) -> Card | None:
    """For whoever labels with judge.by: its card, if it clears judge.floors; null where the YAML has no floors.

    A card that lies in the folder and was made from the very same things is taken as it is; without `worst_tactic` the
    red team is not tried.

    Raises:
        BelowFloor: naming every floor that is not cleared, and the ways out.
        SourceError: the labelled pairs cannot be read.
    """
    section = settings.judge
    if section is None or section.floors is None:
        return None
    from dressage.stages._auditing import made_from

    floors = section.floors
    evidence = _evidence(floors.pairs, floors.at_most, None if floors.worst_tactic is not None else 0)
    card = _kept(folder)
    if card is None or card.made_from != made_from(_subject(settings, section.by), evidence):
        card = _audited(settings, cast, evidence, folder, judge=section.by, progress=progress)
    refuse(card, floors)
    return card


def _kept(folder: Path) -> Card | None:
    """The card that lies in a folder; one that cannot be read is made again."""
    try:
        found = json.loads((folder / "card.json").read_text("utf-8"))
        return Card.model_validate({key: value for key, value in found.items() if key != "hash"})
    except (OSError, ValueError, AttributeError):
        return None


def _evidence(source: SourceSettings | None, at_most: int | None, red_team: int | None) -> "Evidence":
    from dressage.stages._auditing import Evidence, chosen
    from dressage.stages._labelled import labelled_pairs

    shown = str(getattr(source, "path", "") or source.kind) if source else ""
    return Evidence(chosen(labelled_pairs(source) if source else [], at_most), shown, red_team)


def _audited(
    settings: RunSettings, cast: "Cast", evidence: "Evidence", folder: Path, *, judge: str, progress: Progress
) -> Card:
    from dressage.stages._auditing import Room, audited

    section = settings.judge or JudgeSection(by=judge)  # its defaults
    room = Room(
        folder=folder,
        cast=cast,
        progress=progress,
        seed=settings.seed,
        max_chars=section.max_chars,
        broken_response=section.broken_response,
    )
    card = audited(room, judge, _subject(settings, judge), evidence)
    if section.floors:
        card = card.model_copy(update={"rulings": rulings(card, section.floors)})
    commit_json(folder / "card.json", {**card.model_dump(mode="json"), "hash": card.hash()})
    return card


def _judges(settings: RunSettings, wanted: Wanted) -> list[str]:
    there = list(settings.judges)
    for name in wanted.judges:
        if name not in there:
            raise AuditError(f"--judge {name}: it is not in `judges:`{meant(name, there)}")
    names = list(dict.fromkeys(wanted.judges)) or ([settings.judge.by] if settings.judge else there)
    if not names:
        raise AuditError("the YAML has no `judges:`, so there is none to audit")
    return names


def _usable(settings: RunSettings, judge: str) -> None:
    for name in _models_of(settings, judge):
        try:
            settings.models[name].usable()
        except ValueError as error:
            raise AuditError(f"models.{name}: {error}") from error


def _models_of(settings: RunSettings, judge: str) -> list[str]:
    """The models that a judge asks, its members' included."""
    everyone = with_members(settings, [judge])
    return list(dict.fromkeys(model for one in everyone for model in settings.judges[one].models_asked()))


def _source(wanted: Wanted, floors: Floors | None) -> SourceSettings | None:
    """Where the labelled pairs come from."""
    if wanted.pairs is None:
        return floors.pairs if floors else None
    given = {"kind": "jsonl", "path": wanted.pairs, "split": "test"}
    found = settings_of("sources", "jsonl").model_validate(given)
    assert isinstance(found, SourceSettings)
    return found


def _subject(settings: RunSettings, judge: str) -> "Subject":
    """Who is audited, and what makes its answers what they are."""
    from dressage.stages._auditing import Subject

    models = _models_of(settings, judge)
    everyone = dict.fromkeys(with_members(settings, [judge]))
    tools = dict.fromkeys(tool for n in everyone for tool in settings.judges[n].tools_called())
    kinds: list[Settings] = [*(settings.judges[n] for n in everyone), *(settings.models[n] for n in models)]
    kinds += [settings.tools[n] for n in tools]
    parts = [CODE, settings.seed, [[type(kind).code_version, _content(kind)] for kind in kinds]]
    names = tuple(_own_name(settings.models[n], n) for n in models)
    return Subject(settings.judges[judge].kind, names, content_hash(parts))


def _own_name(model: ModelSettings, name: str) -> str:
    """What others call a model: an endpoint's name for it, or where its weights come from."""
    return str(getattr(model, "model", None) or getattr(model, "path", None) or name)


def _content(kind: Settings) -> object:
    """Its settings, and by content what they name; as JSON has it."""
    content = getattr(kind, "content", None)
    return json.loads(json.dumps(content() if content else kind.model_dump(mode="json")))
