"""Settings of the prompts that come with the package: ten categories, each prompt with topic and tone."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from dressage.sources._files import hashes
from dressage.sources._rows import RowSettings, near

FOLDER = Path(__file__).parent / "prompts"


def all_categories() -> tuple[str, ...]:
    """The names of the prompt files, in order."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.jsonl")))


class Settings(RowSettings):
    """Prompts of the package by category; category and topic become tags."""

    kind: Literal["builtin"] = "builtin"
    categories: tuple[str, ...] | None = Field(None, min_length=1)
    """Names such as `advice` or `hard_feelings`; null: all."""
    limit: int | None = Field(None, ge=1)
    """At most so many prompts of each category, spread evenly over its file; null: all."""

    @field_validator("categories")
    @classmethod
    def _known(cls, categories: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in categories or ():
            if name not in all_categories():
                raise ValueError(f"no category {name!r}{near(name, all_categories())}")
        return categories

    def files(self) -> list[tuple[str, Path]]:
        """The files of the chosen categories under the names they are shown by."""
        chosen = self.categories or all_categories()
        return [(f"builtin/{name}.jsonl", FOLDER / f"{name}.jsonl") for name in sorted(set(chosen))]

    def content(self) -> object:
        return {**self.model_dump(mode="json"), "files": hashes(self.files())}
