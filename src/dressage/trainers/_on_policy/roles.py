"""One frozen backbone, several roles: who wears which adapter is a context held over forward and backward.

peft makes this easy to get silently wrong: an adapter switched between forward and backward gets zero gradients
without an error, and so does one of two adapters under one backward.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, Literal

from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from dressage.trainers._lora import LoraSettings

Role = Literal["policy", "reference", "critic"]
NAMES: dict[Role, str] = {"policy": "default", "reference": "reference", "critic": "critic"}
"""What peft calls the adapter of a role."""


class Roles:
    """The adapters on one module: the policy's, the critic's if it has one, and the frozen one of the reference.

    The reference is the policy that training starts from: no adapter, or a frozen copy of the one at `start`.
    Outside every context the policy is worn, so whoever draws from the module draws from it.
    """

    def __init__(self, model: PeftModel, *, start: Path | None, critic: LoraSettings | None) -> None:
        self._model = model
        self._lock = RLock()
        self._worn: Role = "policy"
        self._reference_has_adapter = start is not None
        if start is not None:
            model.load_adapter(str(start), adapter_name=NAMES["reference"], is_trainable=False)
        if critic is not None:
            targets = critic.targets if isinstance(critic.targets, str) else list(critic.targets)
            model.add_adapter(
                NAMES["critic"],
                LoraConfig(task_type="CAUSAL_LM", r=critic.r, lora_alpha=critic.alpha, target_modules=targets),
            )
        self._wear("policy")

    @contextmanager
    def wearing(self, role: Role) -> Iterator[Any]:
        """The module in that role, alone in it; forward and backward both belong inside.

        Raises:
            RuntimeError: the adapters were switched by somebody else meanwhile.
        """
        with self._lock:
            before = self._worn
            self._wear(role)
            try:
                yield self._model.get_base_model()
                self._check(role)
            finally:
                self._wear(before)

    def parameters(self, role: Role) -> dict[str, nn.Parameter]:
        """The trainable parameters of a role's adapter, by name."""
        with self.wearing(role):
            return {name: p for name, p in self._model.named_parameters() if p.requires_grad}

    def _wear(self, role: Role) -> None:
        bare = role == "reference" and not self._reference_has_adapter
        for layer in self._layers():
            layer.enable_adapters(not bare)
            if not bare:
                layer.set_adapter([NAMES[role]], inference_mode=role == "reference")
        self._worn = role

    def _check(self, role: Role) -> None:
        bare = role == "reference" and not self._reference_has_adapter
        for layer in self._layers():
            if layer.disable_adapters != bare or (not bare and list(layer.active_adapters) != [NAMES[role]]):
                raise RuntimeError(
                    f"the adapter of the {role} was switched off while it was at work; its gradients would be zero "
                    "without a word. Let nothing else use this model while it trains"
                )

    def _layers(self) -> Iterator[Any]:
        yield from (m for m in self._model.modules() if isinstance(m, BaseTunerLayer))
