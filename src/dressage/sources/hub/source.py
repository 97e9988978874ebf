"""Opens data sets through the datasets library: hub names, local folders, local parquet, CSV and JSON."""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import datasets

from dressage.sources._rows import Opened, SourceError
from dressage.sources.hub import Settings


def open(settings: Settings) -> Opened:
    """The rows of one split of a data set, loaded when they are asked for."""
    return Opened(partial(_rows, settings))


def _rows(settings: Settings) -> Iterator[tuple[str, object]]:
    shown = _shown(settings)
    for number, fields in enumerate(islice(_loaded(settings, shown), settings.limit), 1):
        yield f"{shown}:row {number}", fields


def _shown(settings: Settings) -> str:
    if settings.name is None:
        return ", ".join(name for name, _ in settings.local_files())
    name = settings.name.rstrip("/")
    return f"{Path(name).name if Path(name).expanduser().is_dir() else name}[{settings.hub_split}]"


def _loaded(settings: Settings, shown: str) -> Iterator[Any]:
    try:
        yield from _plain_files(settings) if settings.name is None else _data_set(settings, settings.name)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise _explained(error, shown) from error


def _plain_files(settings: Settings) -> Any:
    paths = [str(path) for _, path in settings.local_files()]
    return datasets.load_dataset(
        settings.format(),
        data_files={settings.hub_split: paths},
        split=settings.hub_split,
        streaming=settings.streaming,
        **_csv(paths),
    )


def _data_set(settings: Settings, name: str) -> Any:
    local = Path(name).expanduser().is_dir()
    return datasets.load_dataset(
        str(Path(name).expanduser()) if local else name,
        settings.config,
        data_files=list(settings.data_files) or None,
        revision=None if local else settings.commit(),
        split=settings.hub_split,
        streaming=settings.streaming,
    )


def _csv(paths: list[str]) -> dict[str, str]:
    return {"sep": "\t"} if paths[0].removesuffix(".gz").endswith(".tsv") else {}


def _explained(error: Exception, shown: str) -> SourceError:
    if isinstance(error, SourceError):
        return error
    said = str(error.__cause__ or error).strip().splitlines()
    return SourceError(
        f"{shown} cannot be loaded: {type(error).__name__}: {said[0] if said else 'no reason given'}; check "
        "`name`, `config`, `hub_split` and `revision`, or point `data_files:` at local files"
    )
