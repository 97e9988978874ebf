"""What a launcher asks of a training besides processes: accelerate says it in the environment. Imports no torch."""

import os


def spread() -> str | None:
    """Who is to spread a model over the processes: `DeepSpeed`, `FSDP 1`, `FSDP 2`; null: each has a whole one."""
    if _asked("ACCELERATE_USE_DEEPSPEED"):
        return "DeepSpeed"
    return f"FSDP {os.environ.get('FSDP_VERSION', '1')}" if _asked("ACCELERATE_USE_FSDP") else None


def whole_only(kind: str) -> None:
    """Refuses a launcher that asks for what this kind would not do, without a word.

    Raises:
        ValueError: naming it, and the ways out.
    """
    if by := spread():
        raise ValueError(
            f"a launcher asks for {by}, and {kind} keeps a whole model in every process; start it with torchrun, or "
            "take kind: trl_grpo, which FSDP 2 may spread"
        )


def _asked(name: str) -> bool:
    return os.environ.get(name, "false").lower() == "true"
