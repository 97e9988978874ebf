"""What a run has used up at each endpoint: JSON lines beside everything that is hashed, so limits hold for the run.

    runs/<name>/spending.jsonl

One line a request that settled, so that stages, a resume after a crash and several names of one endpoint all count
against the same limits. Requests that are in flight when the process is killed are the only ones nobody booked.
"""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from dressage.records import Usage
from dressage.store import StoreError, append_line, keep_lines, lines_of


class Account:
    """What was spent at one endpoint, and what may have been: the worst case of requests that got no answer."""

    def __init__(self, keep: Callable[[Usage, bool], None] = lambda used, seen: None) -> None:
        self.spent = Usage()
        self.unseen = Usage()
        self._keep = keep
        self._lock = threading.Lock()

    def book(self, used: Usage) -> None:
        """Counts what a request used.

        Raises:
            StoreError: where it cannot be written down; it is counted in this process all the same.
        """
        with self._lock:
            self.spent += used
            self._keep(used, True)

    def suspect(self, worst: Usage) -> None:
        """Counts the most that a request may have used, of which nobody said how much it did.

        Raises:
            StoreError: as above.
        """
        with self._lock:
            self.unseen += worst
            self._keep(worst, False)


class Accounts:
    """The accounts of a run; one who opens them again finds what was booked before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: dict[str, Account] = {}

    def of(self, endpoint: str) -> Account:
        """The account of an endpoint by its identity, the same for every model that is behind it.

        Raises:
            StoreError: where the file is damaged.
        """
        if endpoint not in self._open:
            account = Account()
            for row in self._lines():
                if row["endpoint"] == endpoint:
                    used = Usage(read=row["read"], written=row["written"], cost=row["cost"])
                    (account.book if row["seen"] else account.suspect)(used)
            self._open[endpoint] = kept = Account(lambda used, seen: self._append(endpoint, used, seen))
            kept.spent, kept.unseen = account.spent, account.unseen
        return self._open[endpoint]

    def _lines(self) -> list[dict[str, object]]:
        try:
            keep_lines(self._path, lambda row: True)  # a crash may have torn the last line; ours must not follow it
            return lines_of(self._path)
        except ValueError as error:
            raise StoreError(
                f"{self._path} is damaged ({error}); it says what this run has spent at its endpoints. Mend the line, "
                "or move the file away and lower max_cost and max_tokens_total by what was spent"
            ) from error

    def _append(self, endpoint: str, used: Usage, seen: bool) -> None:
        line: Mapping[str, object] = {"endpoint": endpoint, **used.model_dump(), "seen": seen}
        try:
            append_line(self._path, line)
        except OSError as error:
            raise StoreError(
                f"{self._path} cannot be written: {error.strerror or error}; make room, then run the same command "
                "again: what was answered is kept"
            ) from error
