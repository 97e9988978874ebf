"""TRL's GRPOTrainer with our judge as its reward and our guards: it draws by itself, by transformers or vLLM."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dressage.extras import installed
from dressage.protocols import TrainerSettings
from dressage.records import Frozen
from dressage.trainers._launched import spread
from dressage.trainers._lora import LoraSettings, Tracker, demand_trackers
from dressage.trainers._on_policy import AlarmSettings, can_ring

PER_TOKEN = frozenset({"bnpo", "dr_grpo", "dapo", "cispo"})
"""The losses that sum over tokens: with a ratio of whole replies they would weigh each by its length."""
UNCLIPPED = frozenset({"sapo", "vespo"})
"""The losses that read neither epsilon nor epsilon_high."""


NO_VLLM = (
    "vllm asks for vLLM, whose package is not installed here; install it where the GPU is (pip install 'trl[vllm]'), "
    "or leave `vllm` out: transformers draws then"
)
REFUSED = {
    "DeepSpeed": "whose engine keeps gradients and moments to itself: nobody could say that every number was trained, "
    "nor go on from a checkpoint; ask for FSDP 2 instead (configs/launch/fsdp2.yaml), or start with torchrun",
    "FSDP 1": "which lays an adapter's parameters end to end, without their names; set fsdp_version: 2 in accelerate's "
    "config (configs/launch/fsdp2.yaml)",
}
"""Who may not spread a model, and why."""


class ColocateSettings(Frozen):
    """vLLM in the training process, on the same GPU."""

    mode: Literal["colocate"] = "colocate"
    """Where vLLM runs."""
    gpu_memory_utilization: float = Field(0.3, gt=0, lt=1)
    """Share of the GPU's memory that it takes."""
    tensor_parallel_size: int = Field(1, ge=1, le=1024)
    """GPUs over which it spreads a model, a divisor of the processes."""
    max_model_length: int | None = Field(None, ge=8)
    """Tokens of prompt and reply that it makes room for; null: the model's context."""
    enable_sleep_mode: bool = False
    """Frees its memory while the policy learns, for the time that it takes to come back."""


class ServerSettings(Frozen):
    """A server that `trl vllm-serve` started on GPUs of its own."""

    mode: Literal["server"] = "server"
    """Where vLLM runs."""
    base_url: str = Field(min_length=1)
    """Its address, e.g. http://localhost:8000."""
    timeout: float = Field(240.0, gt=0, le=86400)
    """Seconds to wait until it is up."""
    group_port: int = Field(51216, ge=1, le=65535)
    """The port through which it is sent the adapter's weights."""


VLLMSettings = Annotated[ColocateSettings | ServerSettings, Field(discriminator="mode")]


class Settings(TrainerSettings):
    """Names and meanings are TRL's where it has them. Replies are drawn with data.sampling's temperature and length.

    A generation is what is drawn and graded at once: generation_batch_size replies, from which `minibatches` ×
    `num_iterations` optimizer steps learn. It is an update of the run's records.
    """

    learns_from = "prompts"
    shared = True

    kind: Literal["trl_grpo"] = "trl_grpo"
    steps: int = Field(50, ge=1, le=1_000_000)
    """Optimizer steps, a whole number of generations."""
    generation_batch_size: int = Field(64, ge=2, le=1_048_576)
    """Replies drawn at once (by all processes together), num_generations to each of its prompts."""
    num_generations: int = Field(8, ge=2, le=1024)
    """Replies drawn to a prompt; their mean is what each is compared with."""
    per_device_train_batch_size: int = Field(8, ge=1, le=65536)
    """Replies in a process's memory at once while learning."""
    minibatches: int = Field(1, ge=1, le=4096)
    """Optimizer steps in one pass over a generation."""
    num_iterations: int = Field(1, ge=1, le=64)
    """Passes over a generation."""
    beta: float = Field(0.04, gt=0, le=100)
    """What a nat of KL to the policy training starts from costs. TRL's own default, 0, has no reference at all."""
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    """How tokens and replies are summed, and how the ratio is bounded."""
    epsilon: float = Field(0.2, gt=0, lt=1)
    """How far the ratio of new to old probability may move the loss, downwards (and upwards)."""
    epsilon_high: float | None = Field(None, gt=0, le=100)
    """The same upwards, where it differs; null: as downwards. For cispo the largest ratio itself, e.g. 5."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """A ratio for each token, or one for a whole reply (GSPO, arXiv:2507.18071)."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Differences from the group's mean are divided by its deviation, by the generation's, or not."""
    mask_truncated_completions: bool = False
    """Whether replies that reached their token limit are left out of the loss."""
    learning_rate: float = Field(3e-5, ge=1e-8, le=0.1)
    """Peak rate of AdamW; LoRA bears about ten times that of full fine-tuning."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "constant_with_warmup"
    """How the rate goes on after the warm-up: down to zero in a line or a half cosine, or not at all."""
    warmup: float = Field(0.0, ge=0, lt=1)
    """Share of the steps in which the rate rises from zero, rounded down to whole steps."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Longer gradients are shortened to this norm."""
    judge_timeout: float = Field(3600.0, gt=0, le=604_800)
    """Seconds within which the judge must have graded a generation; TRL itself would wait for ever."""
    alarms: AlarmSettings = AlarmSettings()
    """When to stop by itself; `watch_every` and `patience` count generations."""
    save_every: int = Field(10, ge=1, le=1_000_000)
    """Optimizer steps between checkpoints, a whole number of generations: TRL keeps no half of one."""
    gradient_checkpointing: bool | None = None
    """Recompute activations to save memory at a third more time; null: on a GPU yes, on a CPU no."""
    vllm: VLLMSettings | None = None
    """Draws by vLLM (needs its package and a GPU); null: by transformers."""
    lora: LoraSettings = LoraSettings()
    """The adapter that is trained."""
    report_to: tuple[Tracker, ...] = ()
    """Trackers told besides the run's own metrics, under the same names; each is an extra: dressage[wandb]."""

    def usable(self) -> None:
        """Refuses packages that are not installed, and a launcher under whom our guards would not hold."""
        demand_trackers(self.report_to)
        if self.vllm is not None and not installed("vllm"):
            raise ValueError(NO_VLLM)
        if (by := spread()) in REFUSED:
            raise ValueError(f"a launcher asks for {by}, {REFUSED[by]}")

    @property
    def epochs(self) -> int:
        """Passes over each reply, for the plan of a run and for the schedule."""
        return self.num_iterations

    def steps_per_update(self) -> int:
        """Optimizer steps that learn from one generation."""
        return self.minibatches * self.num_iterations

    def updates(self) -> int:
        """Generations of the whole training."""
        return self.steps // self.steps_per_update()

    def draws(self) -> int:
        return self.updates() * self.generation_batch_size

    def rounds(self) -> int:
        return self.updates()

    @model_validator(mode="after")
    def _whole_numbers(self) -> Self:
        replies, each = self.generation_batch_size, self.per_device_train_batch_size * self.minibatches
        if replies % self.num_generations:
            raise ValueError(
                f"generation_batch_size ({replies}) is not a multiple of num_generations ({self.num_generations}): "
                "every prompt has as many replies; change one of the two"
            )
        if each > replies:
            raise ValueError(
                f"minibatches ({self.minibatches}) × per_device_train_batch_size ({self.per_device_train_batch_size}) "
                f"are more replies than a generation has (generation_batch_size: {replies}); lower the one or the other"
            )
        if replies % each:
            raise ValueError(
                f"generation_batch_size ({replies}) is not a multiple of minibatches × per_device_train_batch_size "
                f"({each}); change one of the three"
            )
        whole = self.steps_per_update()
        if self.steps % whole:
            raise ValueError(
                f"steps ({self.steps}) is not a multiple of minibatches × num_iterations ({whole}): the last "
                "generation would be drawn and judged and learnt from in part"
            )
        if self.save_every % whole:
            raise ValueError(
                f"save_every ({self.save_every}) is not a multiple of minibatches × num_iterations ({whole}): TRL "
                "keeps no half-learnt generation, so a training that goes on from there would end elsewhere; save "
                "between generations"
            )
        return self

    @model_validator(mode="after")
    def _numbers_that_are_read(self) -> Self:
        loss, level = self.loss_type, self.importance_sampling_level
        if loss in UNCLIPPED and (self.epsilon != type(self).model_fields["epsilon"].default or self.epsilon_high):
            raise ValueError(f"loss_type {loss} reads neither epsilon nor epsilon_high; leave them out")
        if loss == "cispo" and (self.epsilon_high or 0) < 1:
            raise ValueError(
                "loss_type cispo takes epsilon_high for the largest ratio itself; below 1 it would scale every token "
                "down: set e.g. epsilon_high: 5"
            )
        if loss != "cispo" and (self.epsilon_high or 0) > 10:
            raise ValueError(f"epsilon_high ({self.epsilon_high:g}) clips nothing; above 10 it is for cispo")
        if level == "sequence" and loss in PER_TOKEN:
            raise ValueError(
                f"importance_sampling_level: sequence with loss_type {loss} weighs a reply by its length; GSPO is "
                "loss_type: grpo"
            )
        if (level, loss) in (("token", "luspo"), ("sequence", "vespo")):
            raise ValueError(f"loss_type {loss} is not defined for importance_sampling_level: {level}; set the other")
        if self.lora.dropout:
            raise ValueError("lora.dropout must be 0: a reply's probability would not be the one it was drawn with")
        can_ring(self.alarms, updates=self.updates())
        return self
