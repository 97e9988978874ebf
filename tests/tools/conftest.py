"""What the tests of tools share: a tool of a kind, opened through the shelf's door."""

from collections.abc import Callable
from typing import Any

import pytest

from dressage.plugins import open_kind, settings_of
from dressage.toolbox import Tool


@pytest.fixture(scope="session")
def opened() -> Callable[..., Tool]:
    def of(kind: str, **settings: Any) -> Tool:
        tool: Tool = open_kind(settings_of("tools", kind)(kind=kind, **settings), name=kind)
        return tool

    return of
