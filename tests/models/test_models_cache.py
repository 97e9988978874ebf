"""The cache is handed over by the name that the installed transformers has for it, so that nothing is printed."""

import warnings
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from dressage.models.local.cache import RowCache, _name_of_cache, extend


def test_a_pass_over_the_cache_warns_of_nothing(tiny_model: Path) -> None:
    module = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    cache = RowCache(module.config.num_hidden_layers, 2)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error")
        logits = extend(module, cache, [[1, 2, 3], [4]], keep=1)
    assert logits.shape[:2] == (2, 1)
    assert cache.lengths == [3, 1]


def test_older_names_are_known_too() -> None:
    class Older:
        def forward(self, input_ids, past_key_values=None): ...

    class Newer:
        def forward(self, input_ids, cache=None, past_key_values=None): ...

    assert [_name_of_cache(model.forward) for model in (Older, Newer)] == ["past_key_values", "cache"]
