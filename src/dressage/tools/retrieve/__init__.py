"""Settings of the tool that looks passages up in a local folder or data set."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from dressage.toolbox import ToolSettings
from dressage.tools.retrieve.files import corpus, hashes


class Settings(ToolSettings):
    """Looks words up in files of yours (BM25) and gives the passages with their places; nothing leaves this machine."""

    kind: Literal["retrieve"] = "retrieve"
    path: str = Field(min_length=1)
    """A folder (its .txt, .md and .jsonl files, folders in it too), or one such file or .parquet file."""
    about: str = Field("", max_length=500)
    """A sentence on what lies there, for the model that decides whether to look."""
    column: str | None = None
    """The column of a .jsonl or .parquet file that holds the text; null: all columns, each after its name."""
    passage_words: int = Field(120, ge=20, le=1000)
    """Passages are cut at paragraphs and headings, and are about so long."""
    k1: float = Field(1.2, ge=0, le=10)
    """How much a word counts more for being there often; 0: not at all."""
    b: float = Field(0.75, ge=0, le=1)
    """How much a long passage must have a word more often to count the same; 0: not at all."""
    most_mib: int = Field(64, ge=1, le=4096)
    """All files together may have so many MiB; more is refused when the tool is opened."""

    def content(self) -> object:
        """Settings, and by content the files: the same folder elsewhere is the same."""
        return {**self.model_dump(mode="json", exclude={"path"}), "files": hashes(corpus(Path(self.path).expanduser()))}
