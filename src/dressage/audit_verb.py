"""The verb `audit`: a judge against people's labels and against the red team → its card."""

from pathlib import Path
from typing import Annotated

import typer


def verb(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A run's YAML file, e.g. configs/demo.yaml")],
    pairs: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Labelled pairs (JSON): chosen and rejected, or two replies and a winner."),
    ] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option("--judge", metavar="NAME", help="A name in `judges:`; may be repeated. Else judge.by."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Else audits/NAME of the run.")] = None,
    at_most: Annotated[int | None, typer.Option(min=1, metavar="N", help="Ask about so many pairs only.")] = None,
    red_team: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Try the tactics on so many prompts only; 0: not at all.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a key of the YAML; may be repeated.")
    ] = None,
) -> None:
    """Make the judge card: how far a judge agrees with people, and what it can be bought with; exit code 1 where it
    does not clear `judge.floors`."""
    from dressage import config as reader

    settings = reader.load(config, sets or [])  # first: an error in it must not wait for imports
    from dressage.auditing import Wanted, audit, folder_of
    from dressage.report.card import write_card
    from dressage.report.card_table import card_table
    from dressage.terminal import TerminalProgress

    folder, progress, below = out or Path("audits") / settings.name, TerminalProgress(), False
    wanted = Wanted(tuple(judges or ()), pairs, at_most, red_team)
    for card in audit(settings, wanted, folder, progress=progress):
        card_table(card)
        progress.say(f"judge card: {write_card(card, folder_of(folder, card.judge) / 'index.html')}")
        below = below or any(ruling.decision != "held" for ruling in card.rulings)
    if below:
        raise typer.Exit(1)
