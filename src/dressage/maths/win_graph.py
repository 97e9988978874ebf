"""Which models a set of games can compare at all: who met whom, and who never lost to whom.

An edge u → v where u got anything of a game against v: a win goes one way, a tie both. Two models have a finite
difference exactly where a path leads each way (Ford 1957).
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dressage.maths.bradley_terry import Rows, Whole

Truths = NDArray[np.bool_]
Place = Literal["anchor", "level", "above", "below", "apart", "elsewhere"]
"""Of a model as seen from the anchor: itself; paths both ways; only from it to the anchor; only from the anchor to
it; neither, though a chain of games joins them; not even that."""


class Graph(NamedTuple):
    """What follows from the edges."""

    gained_MM: Truths
    """True where row got something of a game against column."""
    part_M: Whole
    """Models with the same number have paths both ways."""
    reaches_MM: Truths
    """True where a path leads from row to column, and on the diagonal."""


def graph_of(rows: Rows, models: int) -> Graph:
    """The graph of the rows that weigh anything, its paths by squaring the matrix of edges until nothing is added."""
    pair_R = rows.a_R * models + rows.b_R
    won_MM = np.bincount(pair_R, rows.w_R * rows.y_R, models * models).reshape(models, models)
    lost_MM = np.bincount(pair_R, rows.w_R * (1 - rows.y_R), models * models).reshape(models, models)
    gained_MM = (won_MM > 0) | (lost_MM.T > 0)
    reaches_MM = gained_MM | np.eye(models, dtype=bool)
    while not np.array_equal(
        further := (reaches_MM.astype(np.float32) @ reaches_MM.astype(np.float32)) > 0, reaches_MM
    ):
        reaches_MM = further
    part_M = (reaches_MM & reaches_MM.T).argmax(1)  # the first model that it has paths to and from
    return Graph(gained_MM, part_M.astype(np.int64), reaches_MM)


def restricted(graph: Graph, to: list[int]) -> Graph:
    """The same of some of the models, which no game joins to the others."""
    square = np.ix_(to, to)
    return Graph(graph.gained_MM[square], graph.part_M[to], graph.reaches_MM[square])


def places(graph: Graph, anchor: int) -> list[Place]:
    """Each model's place as seen from the anchor, in their order."""
    to_anchor_M, from_anchor_M = graph.reaches_MM[:, anchor], graph.reaches_MM[anchor]
    met = _undirected(graph.gained_MM, anchor)
    kinds: dict[tuple[bool, bool], Place] = {(True, True): "level", (True, False): "above", (False, True): "below"}
    found = [
        kinds.get((bool(up), bool(down)), "apart" if near else "elsewhere")
        for up, down, near in zip(to_anchor_M, from_anchor_M, met, strict=True)
    ]
    found[anchor] = "anchor"
    return found


def _undirected(gained_MM: Truths, start: int) -> Truths:
    """Everyone whom a chain of games, whoever won, joins to `start`."""
    touch_MM = gained_MM | gained_MM.T
    found_M = np.zeros(len(touch_MM), dtype=bool)
    found_M[start] = True
    while not np.array_equal(further := found_M | touch_MM[found_M].any(0), found_M):
        found_M = further
    return found_M
