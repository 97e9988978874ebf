"""The processes that a launcher (torchrun, accelerate launch) started: the first leads a run, the others follow it.

Only a training is shared. Until one begins, and while the leader has replies drawn and judged in it, the followers wait
for its word in the launcher's key-value store: no collective is open, so none times out however long that takes, and
whoever waits hears when another has ended. Imports no torch where there is one process.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

LOOK = 0.02
"""Seconds between two looks into the store."""
MEETING = 1800.0
"""Seconds after which a process that does not come to a meeting counts as lost; all it has to do is load a model."""
FINDING = 600.0
"""Seconds in which all must have found the store; a launcher starts them at the same time."""
FAREWELL = 10.0
"""Seconds in which the followers should have heard that the leader ends, where the store ends with it."""
AGAIN = "run the same command again: what was committed is kept, and it goes on from there"
OF_A_GROUP = ("gloo", "nccl", "connection closed", "connection reset", "process group")
"""What torch's errors about a group of processes say; they have no type of their own."""


class CompanyError(RuntimeError):
    """The processes of a launch cannot go on together; says which ended, and why where that is known."""


class Ended(RuntimeError):
    """The leader has ended: for a follower the end of its work, and with a code other than 0 an error."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"the leading process ended: {why.partition(chr(10))[0]}")
        self.code = code


def processes() -> int:
    """How many processes the launcher says there are; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def started_alone() -> bool:
    """Whether `accelerate launch` was asked for several processes and started this one only, as it does on a CPU: it
    tells where they would meet, and of no other process."""
    told = os.environ
    return "ACCELERATE_MIXED_PRECISION" in told and "MASTER_PORT" in told and "WORLD_SIZE" not in told


class Company:
    """This process's number among `size`, and the store through which they speak; `own_store`: the leader keeps it."""

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None, *, own_store: bool = False) -> None:
        self.rank, self.size, self._store, self._own_store = rank, size, store, own_store
        self._words = self._meetings = 0

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def say(self, word: object) -> None:
        """The leader's next word to its followers: anything that JSON holds."""
        if self.size > 1:
            self._words += 1
            self._put(f"word/{self._words}", word)

    def hear(self) -> Any:
        """The leader's next word, whenever it comes.

        Raises:
            Ended: it has ended and says no more.
            CompanyError: the store is gone.
        """
        self._words += 1
        self._until(f"word/{self._words}")
        return self._get(f"word/{self._words}")

    def agree(self, decide: Callable[[], Any]) -> Any:
        """What the leader decides, in every process, as JSON gives it back."""
        if not self.leads:
            return self.hear()
        self.say(made := json.loads(json.dumps(decide())))
        return made

    def calls(self) -> Iterator[Mapping[str, Any]]:
        """What the leader calls its followers for, until it ends.

        Raises:
            Ended: with an error.
        """
        while True:
            try:
                word = self.hear()
            except Ended as ended:
                if ended.code:
                    raise
                return
            yield word

    def meet(self) -> None:
        """Until all are here.

        Raises:
            CompanyError: one has ended, or does not come.
        """
        if self.size > 1:
            self._meetings += 1
            self._put(f"here/{self._meetings}/{self.rank}", True)
            for rank in range(self.size):
                self._until(f"here/{self._meetings}/{rank}", process=rank)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around work that all share: where it breaks off because a process is gone, says so.

        Raises:
            CompanyError: naming the process and what it said at its end, if it could.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not any(word in str(error).lower() for word in OF_A_GROUP):
                raise
            self._still_whole()
            raise CompanyError(
                f"another of the {self.size} processes of this training is gone and said nothing, but see what the "
                f"launcher says; {AGAIN}. Here it showed as: {' '.join(str(error).split())[:400]}"
            ) from error

    def leave(self, code: int, why: str) -> None:
        """The last thing a process does: the others are told, if there is still somebody."""
        if self.size > 1:
            try:
                self._leave(code, why)
            except CompanyError:
                return  # the store ended first
            _disband(code)

    def _leave(self, code: int, why: str) -> None:
        if self.leads:
            self._put("end", [code, why])
        elif code:
            self._put("fallen", f"process {self.rank} ended: {why}")
        self._put(f"left/{self.rank}", True)
        began = time.monotonic()
        while self.leads and self._own_store and time.monotonic() - began < FAREWELL:
            if all(self._there(f"left/{rank}") for rank in range(self.size)):
                return
            time.sleep(LOOK)

    def _until(self, key: str, *, process: int | None = None) -> None:
        """Until a key is there; where a `process` owes it, not for ever."""
        began = time.monotonic()
        while not self._there(key):
            self._still_whole()
            if process is not None and time.monotonic() - began > MEETING:
                raise CompanyError(f"process {process} of {self.size} did not come within {MEETING:g} s; it may hang")
            time.sleep(LOOK)

    def _still_whole(self) -> None:
        """Raises what the end of another process means for this one."""
        if not self.leads and self._there("end"):
            raise Ended(*self._get("end"))
        if self.leads and self._there("fallen"):
            raise CompanyError(f"{self._get('fallen')}; {AGAIN}")

    def _put(self, key: str, value: object) -> None:
        self._ask(lambda: self._store.set(key, json.dumps(value)))

    def _get(self, key: str) -> Any:
        return json.loads(self._ask(lambda: self._store.get(key)))

    def _there(self, key: str) -> bool:
        return bool(self._ask(lambda: self._store.check([key])))

    def _ask(self, work: Callable[[], Any]) -> Any:
        """The store's answer."""
        from torch.distributed import DistError

        try:
            return work()
        except DistError as error:
            raise CompanyError(
                f"process {self.rank} of {self.size} no longer reaches the others: the launcher or the leading process "
                f"is gone ({str(error).partition(chr(10))[0]}); {AGAIN}"
            ) from error


def _disband(code: int) -> None:
    """Closes the group of a training in good order; after an error the others may hang in it, and nobody waits."""
    import torch.distributed as dist

    if code == 0 and dist.is_initialized():
        dist.destroy_process_group()


@cache
def company() -> Company:
    """The company that this process is in; without a launcher it is alone.

    Raises:
        CompanyError: the launcher does not say who this process is, or where the others are.
    """
    if processes() == 1:
        return Company()
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, size = next(rendezvous("env://", timeout=timedelta(seconds=FINDING)))
    except (ValueError, RuntimeError) as error:
        raise CompanyError(
            f"a launcher announced {processes()} processes, and they do not find one another: {error}; start them with "
            "torchrun --nproc_per_node N -m dressage.cli …, or unset WORLD_SIZE"
        ) from error
    of_launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Company(rank, size, PrefixStore("dressage", store), own_store=not of_launcher)
