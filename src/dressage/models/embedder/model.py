"""Texts → unit vectors, with plain transformers; a text's vector never depends on what else is embedded.

A text longer than the model reads at once is read in windows, one after the other: nothing of it is cut off.

B windows a batch · L tokens, padded · D dimensions
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel, AutoTokenizer

from dressage.models.embedder import EmbedderError, Settings
from dressage.protocols import Completion, Conversation, Distribution, Done, Sampling, Trouble, Vector
from dressage.records import content_hash

STEP = 32
"""Texts are padded to the next multiple of so many tokens, so that few shapes occur."""
DONE_HERE = frozenset({"Transformer", "Pooling", "Normalize"})
"""The sentence-transformers modules this file can stand for."""


def open(settings: Settings) -> "Embedder":
    """Loads the model.

    Raises:
        EmbedderError: where it is not there, has no safetensors, or pools in a way that is not done here.
    """
    return Embedder(settings)


class Embedder:
    """See protocols.Model. It gives vectors only."""

    paid = False

    def __init__(self, settings: Settings) -> None:
        folder = settings.folder()
        if not any(folder.glob("*.safetensors")):
            raise EmbedderError(f"{folder} holds no .safetensors file, and pickled weights are not loaded")
        check_recipe(folder)
        code = settings.code_version
        self.fingerprint = content_hash({"code_version": code, "content": settings.content()})
        self._settings = settings
        self._device = _device(settings.device)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        module = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        self._module: Any = module.eval().to(self._device)
        self._longest = longest(folder, self._tokenizer)

    @property
    def facts(self) -> dict[str, str | int]:
        """What a reader of the vectors should know: how much of a text the model reads at once."""
        return {"device": str(self._device), "tokens a window": self._longest}

    def embed(self, texts: Sequence[str], *, done: Done) -> list[Vector | Trouble]:
        """Unit vectors in the order asked: vector = mean of a text's token vectors in all its windows, at length 1."""
        windows = [(index, ids) for index, text in enumerate(texts) for ids in self._windows(text)]
        left = Counter(index for index, _ in windows)
        parts: dict[int, dict[int, torch.Tensor]] = {index: {} for index in left}
        answers: dict[int, Vector | Trouble] = {}
        steps = [min(-(-len(ids) // STEP) * STEP, self._longest) for _, ids in windows]
        for places in batches(steps, self._settings.batch_size):
            mean_BD = self._means([windows[place][1] for place in places], steps[places[0]])
            for place, mean_D in zip(places, mean_BD, strict=False):  # fillers come last
                index, ids = windows[place]
                parts[index][place] = mean_D * len(ids)
                left[index] -= 1
                if not left[index]:
                    answers[index] = Vector(values=tuple(_joined(parts.pop(index)).tolist()))
                    done(index, answers[index])
        return [answers[index] for index in range(len(texts))]

    @torch.inference_mode()
    def _means(self, ids: Sequence[Sequence[int]], columns: int) -> torch.Tensor:
        """Means of the token vectors; rows are always as many, so that rounding is, too."""
        rows = self._settings.batch_size
        ids_BL = torch.full((rows, columns), self._tokenizer.pad_token_id or 0, dtype=torch.long)
        mask_BL = torch.zeros((rows, columns), dtype=torch.long)
        mask_BL[:, 0] = 1  # a filler row is one token long: attention over nothing would give NaN
        for row, one in enumerate(ids):
            ids_BL[row, : len(one)] = torch.tensor(one)
            mask_BL[row, : len(one)] = 1
        ids_BL, mask_BL = ids_BL.to(self._device), mask_BL.to(self._device)
        hidden_BLD = self._module(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
        mean_BD: torch.Tensor = (hidden_BLD * mask_BL[..., None]).sum(1) / mask_BL.sum(1, keepdim=True)
        return mean_BD.cpu()

    def _windows(self, text: str) -> list[list[int]]:
        """The ids of a text in pieces the model can read, each with the tokens that begin and end one."""
        clean = text.encode("utf-8", "replace").decode("utf-8")  # the tokenizer refuses half a surrogate pair
        limits = {"truncation": True, "max_length": self._longest, "return_overflowing_tokens": True}
        ids: list[list[int]] = self._tokenizer([clean], **limits)["input_ids"]
        return ids

    def complete(
        self, conversations: Sequence[Conversation], *, sampling: Sampling, seeds: Sequence[int], done: Done
    ) -> list[Completion | Trouble]:
        raise ValueError(f"{self._settings.path} gives vectors only; words need `kind: local` or `endpoint`")

    def label_probabilities(
        self, conversations: Sequence[Conversation], labels: Sequence[tuple[str, ...]], *, done: Done
    ) -> list[Distribution | Trouble]:
        raise ValueError(f"{self._settings.path} gives vectors only; labels need `kind: local` or `endpoint`")

    def prompt_tokens(self, conversation: Conversation) -> int | None:
        return None

    def context(self) -> int | None:
        return None

    def close(self) -> None:
        """Lets the weights go."""
        self._module = None


def _joined(windows: dict[int, torch.Tensor]) -> torch.Tensor:
    """The unit vector along the sum of a text's token vectors, its windows added in their order."""
    return F.normalize(torch.stack([windows[place] for place in sorted(windows)]).sum(0), dim=-1)


def batches(steps: Sequence[int], size: int) -> Iterator[list[int]]:
    """Indices of windows of one padded length, `size` at a time, shortest first, else in the order asked."""
    for step in sorted(set(steps)):
        alike = [index for index, other in enumerate(steps) if other == step]
        yield from (alike[start : start + size] for start in range(0, len(alike), size))


def longest(folder: Path, tokenizer: Any) -> int:
    """Tokens a window may have: the least that the folder, the tokenizer and the positions allow."""
    limits = [
        int(tokenizer.model_max_length),
        int(AutoConfig.from_pretrained(folder).max_position_embeddings),
    ]
    path = folder / "sentence_bert_config.json"
    said = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return min([*limits, int(said["max_seq_length"])] if "max_seq_length" in said else limits)


def check_recipe(folder: Path) -> None:
    """Checks that the model's vectors are means of its token vectors, which is all that is done here.

    Raises:
        EmbedderError: where its own files ask for another pooling or for more layers.
    """
    modules, pooling = folder / "modules.json", folder / "1_Pooling" / "config.json"
    if modules.is_file():
        types = {entry["type"].rsplit(".", 1)[-1] for entry in json.loads(modules.read_text("utf-8"))}
        if more := types - DONE_HERE:
            raise EmbedderError(f"{modules} asks for {', '.join(sorted(more))}, which is not done here")
    if pooling.is_file():
        config = json.loads(pooling.read_text("utf-8"))
        named = {str(config["pooling_mode"])} if "pooling_mode" in config else set()
        flags = {name.removeprefix("pooling_mode_") for name, on in config.items() if on is True}
        if other := (named | flags) - {"mean", "mean_tokens", "include_prompt"}:
            raise EmbedderError(f"{pooling} asks for {', '.join(sorted(other))}; only the mean is taken")


def _device(name: str) -> torch.device:
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
