"""Settings of rows from the Hugging Face hub, or of local parquet, CSV and JSON files read the same way."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from dressage.sources._files import hashes, matched
from dressage.sources._rows import RowSettings, SourceError

FORMATS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json"}
"""Ending of a local file, without .gz → the builder of the datasets library that reads it."""


class Settings(RowSettings):
    """A data set by its hub name, a folder laid out like one, or plain data files."""

    kind: Literal["hub"] = "hub"
    name: str | None = Field(None, min_length=1)
    """A hub name such as `openai/gsm8k`, or a local folder; null: only `data_files`."""
    config: str | None = None
    """The configuration, where a data set has several."""
    data_files: tuple[str, ...] = ()
    """Files of the named data set; without a name, local parquet, CSV, TSV or JSON files of one format."""
    hub_split: str = Field("train", min_length=1)
    """Which split of the data set to read, by its own name; ours is `split:`."""
    revision: str | None = None
    """A branch, tag or commit of the hub; a full commit needs no network to be known."""
    streaming: bool = False
    """Read rows as they come instead of preparing the whole data set on disk first."""

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.name is None and not self.data_files:
            raise ValueError("a hub source needs a `name:` or `data_files:`")
        if self.name is None:
            self.format()
        return self

    def format(self) -> str:
        """The builder that reads the local data files.

        Raises:
            ValueError: the endings name none, or more than one.
        """
        endings = {Path(file.removesuffix(".gz")).suffix for file in self.data_files}
        formats = {FORMATS.get(ending, f"unknown ({ending or 'no ending'})") for ending in endings}
        if len(formats) != 1 or not formats <= set(FORMATS.values()):
            raise ValueError(
                f"data_files must all end in one of {', '.join(FORMATS)}; found {', '.join(sorted(formats))}"
            )
        return formats.pop()

    def local_files(self) -> list[tuple[str, Path]]:
        """The local files rows come from; none where they come from the hub."""
        if self.name is None:
            return [found for pattern in self.data_files for found in matched(pattern)]
        folder = Path(self.name).expanduser()
        return matched(f"{folder}/**/*") if folder.is_dir() else []

    def content(self) -> object:
        files = self.local_files()
        if files:
            local = self.model_dump(mode="json", exclude={"name", "data_files"})
            return {**local, "files": hashes(files), "names": [Path(file).name for file in self.data_files]}
        return {**self.model_dump(mode="json", exclude={"revision"}), "commit": self.commit()}

    def commit(self) -> str:
        """The commit that `revision` stands for now.

        Raises:
            SourceError: it cannot be known: offline and not in the cache, or no such data set.
        """
        if self.revision and re.fullmatch(r"[0-9a-f]{40}", self.revision):
            return self.revision
        return _resolved(str(self.name), self.revision)


def _resolved(name: str, revision: str | None) -> str:
    from httpx2 import HTTPError  # no connection: huggingface_hub lets it through
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    offline = constants.is_offline_mode()
    cached = Path(constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}", "refs", revision or "main")
    try:
        return cached.read_text().strip() if offline else str(HfApi().dataset_info(name, revision=revision).sha)
    except (OSError, HTTPError, HfHubHTTPError, HFValidationError) as error:
        raise SourceError(
            f"cannot tell which commit of data set {name!r} is meant{' while offline' if offline else ''} "
            f"({type(error).__name__}); write its 40-digit commit as `revision:`, go online, "
            "or name local files with `data_files:`"
        ) from error
