"""Which language a text is in, by py3langid's shipped model; imported when a check asks for it."""

from functools import cache
from pathlib import Path
from typing import Any

import py3langid
from py3langid.langid import MODEL_FILE, LanguageIdentifier

MOST = 20_000
"""Characters that are looked at; more change nothing."""


@cache
def _identifier() -> Any:
    return LanguageIdentifier.from_modelpath(Path(py3langid.__file__).parent / MODEL_FILE, norm_probs=True)


def ranked(text: str) -> dict[str, float]:
    """Language → its probability, the likeliest first."""
    return {str(name): float(p) for name, p in _identifier().rank(text[:MOST])}
