"""Settings of a local model: a folder or hub name that transformers loads, under an adapter or not."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from dressage.extras import demand, version_of
from dressage.models.local import vllm, weights
from dressage.protocols import ModelSettings


class Settings(ModelSettings):
    """A causal language model on this machine; it samples, reads labels and can be trained."""

    chats: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True
    scores: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    kind: Literal["local"] = "local"
    path: str = Field(min_length=1)
    """A folder with config.json and safetensors, or a hub name: HuggingFaceTB/SmolLM2-135M-Instruct."""
    revision: str | None = None
    """Branch, tag or commit of a hub name; null is its main branch."""
    adapter: str | None = None
    """A peft adapter folder that the base wears, frozen."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the weights; auto takes bfloat16 where this machine is clearly faster in it."""
    quantize: Literal["4bit"] | None = None
    """Keeps the frozen linear layers in 4 bits (NF4, its scales quantised too: QLoRA, arXiv:2305.14314); they compute
    in `dtype`, and adapters stay in float32. Needs the extra `qlora`."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where it runs; auto takes a GPU if there is one."""
    threads: int | None = Field(None, ge=1, le=1024)
    """CPU threads torch may use in this process; null leaves torch's own choice."""
    rows: int = Field(64, ge=1, le=4096)
    """Replies sampled at the same time; more are faster and take more memory."""
    trust_remote_code: bool = False
    """Run Python code that the model's folder brings along."""
    sampler: vllm.Settings | None = None
    """Who draws the replies of every role on this model; null: the model itself, here. Trained and scored is here."""

    def usable(self) -> None:
        """Raises:
        ValueError: `quantize` is set and bitsandbytes is not installed.
        """
        if self.quantize:
            demand("bitsandbytes", asked_by=f"quantize: {self.quantize}")

    def at_hand(self) -> tuple[Path | None, Path | None]:
        adapter = Path(self.adapter).expanduser() if self.adapter else None
        return weights.at_hand(self.path, self.revision), adapter

    def resolve(self) -> weights.Source:
        """Where its files are, checked without torch.

        Raises:
            ValueError: where the model or its adapter is missing or unusable, with the way out.
        """
        return weights.resolve(self.path, self.revision, adapter=self.adapter)

    def identity(self) -> str:
        """The weights' own hash, with the adapter's: a copy of the folder is the same model."""
        return weights.identity(self.resolve())

    def content(self) -> object:
        """What decides its answers: the hash of every file (or the hub's commit), dtype and rows."""
        source = self.resolve()
        return {
            "kind": self.kind,
            "code_version": self.code_version,
            "weights": weights.hashes(source.folder) if source.folder else {"commit": source.commit},
            "adapter": weights.hashes(source.adapter) if source.adapter else None,
            "dtype": self.dtype,
            "rows": self.rows,
            "trust_remote_code": self.trust_remote_code,
            **({"sampler": self.sampler.content()} if self.sampler else {}),
            # Left out where it is not set: labels bought before there was this setting stay valid.
            **({"quantize": [self.quantize, version_of("bitsandbytes")]} if self.quantize else {}),
        }
