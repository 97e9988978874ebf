"""What two texts differ in besides quality: counts of both sides as relative differences of one scale."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dressage.maths.bradley_terry import Floats


class Features(NamedTuple):
    """The columns that vary at all, and the deviation of every one."""

    x_RF: Floats
    deviations: dict[str, float]
    """Name → s; 0 where both sides are always alike, and such a column is not in `x_RF`."""


def relative_differences(counts: Mapping[str, tuple[Sequence[float], Sequence[float]]], rows: int) -> Features:
    """x = (a − b)/(a + b) of each named count, over its deviation s; 0 where neither side has any.

    The deviation is about 0: rows have no right way round, and over all rows and their mirror images the mean is 0.
    (A mean of the rows as they come would take away what one model always does, where it always stands first.)

    Raises:
        ValueError: for a count that is negative or not finite, or another number of counts than rows.
    """
    columns, deviations = [], {}
    for name, sides in counts.items():
        a_R, b_R = (np.asarray(side, dtype=np.float64) for side in sides)
        if a_R.shape != (rows,) or b_R.shape != (rows,):
            raise ValueError(f"style {name!r} has {len(a_R)} and {len(b_R)} counts for {rows} battles")
        if not (np.isfinite(a_R).all() and np.isfinite(b_R).all() and (a_R >= 0).all() and (b_R >= 0).all()):
            raise ValueError(f"style {name!r} must be counts, 0 or more; it has others")
        total_R = a_R + b_R
        x_R = (a_R - b_R) / np.where(total_R == 0, 1.0, total_R)
        deviations[name] = float(np.sqrt(np.mean(x_R**2)))
        if deviations[name] > 0:
            columns.append(x_R / deviations[name])
    return Features(np.column_stack(columns) if columns else np.zeros((rows, 0)), deviations)
