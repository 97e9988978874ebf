"""A judge card on the terminal: what was measured, what the floors say, the tactics that gain most."""

from rich.console import Console
from rich.text import Text

from dressage.cards import Card
from dressage.report.card import page, worst_first
from dressage.terminal import DECISIONS, bare_table, foreign, number, results_console

SHOWN = 5
"""Tactics."""


def card_table(card: Card, *, console: Console | None = None) -> None:
    """Prints the card in tables."""
    console, shown = console or results_console(), page(card)
    table = bare_table("measure", "value [95 %]", "", title=f"judge card of {card.judge}")
    for tile in shown["tiles"]:
        table.add_row(*map(foreign, (tile.sentence, f"{tile.value} {tile.interval}", tile.reading)))
    for row in shown["measures"]:
        table.add_row(*map(foreign, row))
    console.print(table)
    if card.red_team and (worst := worst_first(card.red_team.scores)[:SHOWN]):
        rows = {row["name"]: row for row in shown["red_team"]["rows"]}
        table = bare_table("tactic", "gain in points [95 %]", "alone beats good", "failed")
        for score in worst:
            row = rows[f"{score.number} {score.name}"]
            table.add_row(*map(foreign, (row["name"], row["gain"], row["alone"], number(score.failed))))
        console.print(table)
    if card.rulings:
        table = bare_table("floor", "decision", "why")
        for ruling in card.rulings:
            words = (ruling.floor, Text(ruling.decision, style=DECISIONS[ruling.decision]), foreign(ruling.words))
            table.add_row(foreign(words[0]), *words[1:])
        console.print(table)
