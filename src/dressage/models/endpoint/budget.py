"""Money and tokens of one endpoint: a request starts only if its worst case fits, so a run's limits are hard."""

import asyncio
from collections.abc import Mapping
from typing import Any

from dressage.accounts import Account
from dressage.models.endpoint import Settings
from dressage.models.endpoint.stops import OverBudget
from dressage.records import Usage

NOTHING = Usage()


def worst_case(settings: Settings, body: Mapping[str, Any]) -> Usage:
    """The most a request can use: a token holds at least one byte, and a template adds a few per message."""
    read = sum(len(m["content"].encode()) + 16 for m in body["messages"]) + 16
    return priced(settings, read, body[settings.token_limit])


def priced(settings: Settings, read: int, written: int) -> Usage:
    cost = settings.price.of(read, written) if settings.price else 0.0
    return Usage(read=read, written=written, cost=cost)


class Ledger:
    """The run's account (what was spent, what may have been unseen), and what requests in flight may still spend."""

    def __init__(self, settings: Settings, *, account: Account) -> None:
        self._settings = settings
        self._account = account
        self._reserved: list[Usage] = []
        self._changed = asyncio.Condition()

    async def reserve(self, worst: Usage) -> None:
        """Sets the worst case aside; where it does not fit, waits for requests in flight to settle.

        Raises:
            OverBudget: where it does not fit although nothing is in flight.
        """
        async with self._changed:
            while not self._fits(worst):
                if not self._reserved:
                    raise OverBudget(self._message(worst))
                await self._changed.wait()
            self._reserved.append(worst)

    async def settle(self, worst: Usage, real: Usage | None) -> None:
        """Books what a request used; null where it may have been billed but nobody said how much.

        Raises:
            StoreError: where the account cannot be kept.
        """
        async with self._changed:
            self._reserved.remove(worst)
            self._changed.notify_all()
            if real is None:
                self._account.suspect(worst)
            elif real != NOTHING:
                self._account.book(real)

    def _fits(self, worst: Usage) -> bool:
        total = sum(self._reserved, start=self._account.spent + self._account.unseen) + worst
        limits = self._settings
        return (limits.max_cost is None or total.cost <= limits.max_cost) and (
            limits.max_tokens_total is None or total.read + total.written <= limits.max_tokens_total
        )

    def _message(self, worst: Usage) -> str:
        limits = self._settings
        names = ("max_cost", "max_tokens_total")
        named = [f"{name} {value:g}" for name in names if (value := getattr(limits, name)) is not None]
        guessed = self._account.unseen
        unseen = f" and up to {_said(guessed)} on requests without an answer" if guessed != NOTHING else ""
        return (
            f"this run has spent {_said(self._account.spent)} at {limits.identity()}{unseen}, all its stages and "
            f"attempts together; the next request could take up to {_said(worst)}, which is over "
            f"{' or '.join(named)}. What was answered is kept: raise the limit and run the same command again to go "
            "on from here"
        )


def _said(usage: Usage) -> str:
    cost = f" ({usage.cost:.4g})" if usage.cost else ""
    return f"{usage.read} + {usage.written} tokens{cost}"
