"""A key-value cache of independent rows, each as long as its own text, and the forward pass over them.

Shapes: B rows in this pass, T new tokens (shorter rows are padded on the left), W columns seen, V vocabulary,
H key-value heads, D head size. Row r keeps its tokens in columns 0 … length(r) - 1.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache as cached
from inspect import signature
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_BLOCK = 64
"""Columns a buffer grows by at least."""

KeyValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values (H, tokens, D) of a stretch of text, one pair a layer."""


class _Place:
    """Where the next forward pass writes, and what it sees; all layers share it."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.row_B1 = torch.empty(0, dtype=torch.long)
        self.column_BT = torch.empty(0, dtype=torch.long)
        self.width = 0


class _RowLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's buffers (rows, H, columns, D), written in place: nothing is concatenated a step."""

    is_sliding = False

    def __init__(self, place: _Place) -> None:
        super().__init__()
        self.place = place

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True
        self.keys = self._wider(None, key_states, self.place.width + 1)
        self.values = self._wider(None, value_states, self.place.width + 1)

    def hold(self, width: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Makes room for `width` columns of states shaped like `key` and `value`."""
        if not self.is_initialized:
            self.lazy_initialization(key, value)
        if self.keys.shape[2] < width:
            self.keys = self._wider(self.keys, key, width)
            self.values = self._wider(self.values, value, width)

    def _wider(self, old: torch.Tensor | None, like: torch.Tensor, width: int) -> torch.Tensor:
        columns = -(-width // _BLOCK) * _BLOCK
        # Zeros, not empty: a masked column has weight 0, and 0 times a stray NaN would still be NaN.
        new = like.new_zeros(self.place.rows, like.shape[-3], columns, like.shape[-1])
        if old is not None:
            new[:, :, : old.shape[2]] = old
        return new

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        place = self.place
        self.hold(place.width + 1, key_states, value_states)
        self.keys[place.row_B1, :, place.column_BT] = key_states.transpose(1, 2)
        self.values[place.row_B1, :, place.column_BT] = value_states.transpose(1, 2)
        rows = len(key_states)
        return self.keys[:rows, :, : place.width], self.values[:rows, :, : place.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.place.width, 0

    def get_seq_length(self) -> int:
        return self.place.width

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):  # type: ignore[misc]
    """`rows` texts of different lengths side by side; a row can be loaded, moved, extended and read back."""

    def __init__(self, layers: int, rows: int) -> None:
        self.place = _Place(rows)
        self.lengths = [0] * rows
        super().__init__(layers=[_RowLayer(self.place) for _ in range(layers)])

    def load(self, row: int, stretches: Sequence[KeyValues]) -> None:
        """Fills a row, from its start, with the keys and values of consecutive stretches of text."""
        at = 0
        for stretch in stretches:
            end = at + stretch[0][0].shape[1]
            for layer, (key_HTD, value_HTD) in zip(self.layers, stretch, strict=True):
                layer.hold(end, key_HTD, value_HTD)
                layer.keys[row, :, at:end] = key_HTD
                layer.values[row, :, at:end] = value_HTD
            at = end
        self.lengths[row] = at

    def read(self, row: int, start: int) -> KeyValues:
        """A copy of a row's keys and values from column `start` to its end."""
        end = self.lengths[row]
        return [
            (layer.keys[row, :, start:end].clone(), layer.values[row, :, start:end].clone()) for layer in self.layers
        ]

    def move(self, source: int, target: int) -> None:
        """Puts row `source` where `target` was."""
        end = self.lengths[source]
        for layer in self.layers:
            layer.keys[target, :, :end] = layer.keys[source, :, :end]
            layer.values[target, :, :end] = layer.values[source, :, :end]
        self.lengths[target] = end


def extend(module: Any, cache: RowCache, tokens: Sequence[Sequence[int]], *, keep: int) -> torch.Tensor:
    """Feeds row i its next `tokens[i]` (at least one); logits of the last `keep` columns, (B, keep, V).

    The last column of every row is its last token, whatever the row's number of tokens.
    """
    with _fed(module, cache, tokens) as inputs:
        logits: torch.Tensor = module(**inputs, logits_to_keep=keep).logits
    return logits


def extend_hidden(module: Any, cache: RowCache, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
    """The same, but what the output head would read at each row's last token, (B, hidden width)."""
    with _fed(module, cache, tokens) as inputs:
        hidden: torch.Tensor = module.base_model(**inputs).last_hidden_state[:, -1]
    return hidden


@cached
def _name_of_cache(forward: Callable[..., Any]) -> str:
    """What a forward pass calls its cache: transformers 5.24 renames `past_key_values`, 5.40 is to drop it."""
    return "cache" if "cache" in signature(forward).parameters else "past_key_values"


@contextmanager
def _fed(module: Any, cache: RowCache, tokens: Sequence[Sequence[int]]) -> Iterator[dict[str, Any]]:
    """The inputs of a pass in which row i reads `tokens[i]` after what it holds; afterwards it holds them too."""
    count, device = len(tokens), module.device
    longest = max(len(row) for row in tokens)
    ends = [cache.lengths[i] + len(row) for i, row in enumerate(tokens)]
    place = cache.place
    place.width = max(ends)
    id_BT = torch.tensor([[0] * (longest - len(row)) + list(row) for row in tokens])
    position_BT = torch.tensor(ends)[:, None] + torch.arange(-longest, 0)[None]
    pad_BT = torch.arange(longest)[None] < torch.tensor([longest - len(row) for row in tokens])[:, None]
    # What padding computes goes to a column just outside of what is seen.
    place.column_BT = position_BT.masked_fill(pad_BT, place.width).to(device)
    place.row_B1 = torch.arange(count, device=device)[:, None]
    position_BT = position_BT.clamp(min=0).masked_fill(pad_BT, 0).to(device)
    unseen_BTW = torch.arange(place.width, device=device)[None, None] > position_BT[:, :, None]
    mask_B1TW = torch.zeros((count, 1, longest, place.width), dtype=module.dtype, device=device)
    mask_B1TW.masked_fill_(unseen_BTW[:, None], torch.finfo(module.dtype).min)
    yield {
        "input_ids": id_BT.to(device),
        "attention_mask": mask_B1TW,
        "position_ids": position_BT,
        _name_of_cache(type(module).forward): cache,
        "use_cache": True,
    }
    cache.lengths[:count] = ends
