"""Ballots and tools that the tests of judges share."""

from collections.abc import Callable

import pytest

from dressage.protocols import JudgeTools
from dressage.records import Ballot, Message


@pytest.fixture
def ballot() -> Callable[..., Ballot]:
    """Builds a ballot about a parcel from its texts."""

    def build(*texts: str, asked: str = "Where is my parcel?", reference: str | None = None) -> Ballot:
        messages = (Message(role="system", content="You serve customers."), Message(role="user", content=asked))
        return Ballot(messages=messages, texts=texts, reference=reference)

    return build


@pytest.fixture
def tools() -> Callable[..., JudgeTools]:
    """Builds the tools of a judge whose models read labels, or do not."""

    def build(reads_labels: bool = False, **members: object) -> JudgeTools:
        return JudgeTools(secret="sesame", members=members, reads_labels=lambda model: reads_labels)  # type: ignore[arg-type]

    return build
