"""The on-policy update against a slow, plainly written PPO, and against one step of TRL's GRPO on one batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from practice_parts import Gym, prompts, share_below
from safetensors.torch import load_file
from test_on_policy import COMMON, local, settings  # noqa: F401
from training_parts import Desk, TinyBackbone

from dressage.maths.advantages import group_standardised
from dressage.maths.policy_losses import clipped_policy, kl_penalty, weights_over_sequences, weights_over_tokens
from dressage.models.local.model import LocalModel
from dressage.plugins import open_kind
from dressage.seeds import seed_for
from dressage.tokens import prompt_ids
from dressage.trainers._forks import Fork, laid_out
from dressage.trainers._logprobs import told_tokens
from dressage.trainers._lora import LoraSettings
from dressage.trainers._lora.adapter import adapted
from dressage.trainers._policy import Policy

HEAT = 0.8


def plain_logits(model: Any, prompt: list[int], reply: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probabilities of the reply's tokens, hidden states before them), one row, no padding."""
    out = model(torch.tensor([[*prompt, *reply]]), output_hidden_states=True)
    at = slice(len(prompt) - 1, len(prompt) + len(reply) - 1)
    logprob = (out.logits[0, at] / HEAT).log_softmax(-1)
    return logprob[range(len(reply)), list(reply)], out.hidden_states[-1][0, at]


def unit(hidden: torch.Tensor) -> torch.Tensor:
    """Mean 0 and length 1."""
    middle = hidden - hidden.mean()
    return middle / (middle.square().sum() + 1e-5 * len(hidden)).sqrt()


def plain_ppo(model: Any, updates: list[Any], tokenizer: Any, asked: dict[str, Any], s: Any) -> dict[str, Any]:
    """PPO with GAE and a linear critic as a textbook would write it: one reply at a time, Python lists for GAE."""
    weights = [p for p in model.parameters() if p.requires_grad]
    first = [grade.score for _, grade in updates[0]]
    head = torch.zeros(model.config.hidden_size, requires_grad=True)
    bias = torch.tensor([sum(first) / len(first)], requires_grad=True)
    actor = torch.optim.AdamW(weights, s.learning_rate, weight_decay=0)
    critic = torch.optim.AdamW([head, bias], s.critic.learning_rate, weight_decay=0)
    for rows in updates:
        batch, everything = [], []
        for candidate, grade in rows:
            prompt = prompt_ids(tokenizer, asked[candidate.prompt_id].messages)
            with torch.no_grad():
                _, hidden = plain_logits(model, prompt, candidate.token_ids)
                with model.disable_adapter():
                    reference, _ = plain_logits(model, prompt, candidate.token_ids)
                values = [float(unit(h) @ head + bias) for h in hidden]
            rewards = [
                -s.kl.coefficient * (old - float(ref)) for old, ref in zip(candidate.logprobs, reference, strict=True)
            ]
            rewards[-1] += grade.score
            advantages, later = [0.0] * len(rewards), 0.0
            for t in reversed(range(len(rewards))):
                after = values[t + 1] if t + 1 < len(values) else 0.0
                later = rewards[t] + s.gamma * after - values[t] + s.gamma * s.lam * later
                advantages[t] = later
            returns = [a + v for a, v in zip(advantages, values, strict=True)]
            batch.append((prompt, candidate, advantages, returns, values))
            everything += advantages
        mean = sum(everything) / len(everything)
        deviation = (sum((a - mean) ** 2 for a in everything) / len(everything) + 1e-8) ** 0.5
        for _ in range(s.epochs):
            policy_loss = value_loss = torch.zeros(())
            for prompt, candidate, advantages, returns, values in batch:
                logprobs, hidden = plain_logits(model, prompt, candidate.token_ids)
                for t in range(len(advantages)):
                    ratio = torch.exp(logprobs[t] - candidate.logprobs[t])
                    advantage = (advantages[t] - mean) / deviation
                    policy_loss = policy_loss - torch.min(
                        ratio * advantage, torch.clamp(ratio, 1 - s.clip, 1 + s.clip) * advantage
                    )
                    value = unit(hidden[t].detach()) @ head + bias[0]
                    near = torch.clamp(value, values[t] - s.critic.clip, values[t] + s.critic.clip)
                    value_loss = value_loss + torch.max((value - returns[t]) ** 2, (near - returns[t]) ** 2) / 2
            for optimizer, loss, parameters in ((actor, policy_loss, weights), (critic, value_loss, [head, bias])):
                optimizer.zero_grad()
                (loss / len(everything)).backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
    return {"weights": [w.detach().clone() for w in weights], "head": head.detach(), "bias": bias.detach()}


def test_ppo_is_a_plainly_written_ppo(local: LocalModel, tmp_path: Path) -> None:  # noqa: F811
    s = settings(
        "ppo",
        updates=3,
        epochs=2,
        kl={"kind": "fixed", "coefficient": 0.05},
        learning_rate=2e-3,
        gamma=0.97,
        critic={"kind": "head", "warmup_updates": 0, "learning_rate": 5e-2, "clip": 0.05},
    )
    gym, desk = Gym(local, share_below(COMMON)), Desk(tmp_path)
    result = open_kind(s, practice=gym.practice()).train(prompts(8), local, desk.workplace)
    assert max(line["policy/clipfrac"] for line in desk.lines) > 0
    assert max(line["value/clipfrac"] for line in desk.lines) > 0
    assert abs(desk.lines[-1]["objective/kl"]) > 0.01

    with adapted(local.module, LoraSettings(r=4, alpha=8), seed=seed_for(0, "lora"), start=None) as model:
        names = [name for name, p in model.named_parameters() if p.requires_grad]
        asked = {p.id: p for p in prompts(8)}
        plain = plain_ppo(model, [gym.memory[u] for u in (1, 2, 3)], local.tokenizer, asked, s)
    ours = load_file(result.adapter / "adapter_model.safetensors")
    for name, weight in zip(names, plain["weights"], strict=True):
        assert torch.allclose(ours[name.replace(".default", "")], weight, atol=2e-5), name
    state = load_file(tmp_path / "checkpoints" / "step-00000003" / "state.safetensors")
    assert torch.allclose(state["critic/head.linear.weight"][0], plain["head"], atol=1e-5)
    assert torch.allclose(state["critic/head.linear.bias"], plain["bias"], atol=1e-5)


@pytest.mark.parametrize(("average", "theirs_is"), [("sequences", "grpo"), ("tokens", "bnpo")])
def test_loss_and_gradient_are_those_of_trls_grpo(backbone: TinyBackbone, tmp_path, average: str, theirs_is: str):
    import datasets
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer

    theirs = GRPOTrainer(
        model=backbone.module,
        reward_funcs=lambda completions, **kw: [0.0] * len(completions),
        args=GRPOConfig(
            str(tmp_path), use_cpu=True, bf16=False, gradient_checkpointing=False, beta=0.1, report_to=[],
            loss_type=theirs_is, temperature=HEAT, num_generations=2, per_device_train_batch_size=2,
        ),
        train_dataset=datasets.Dataset.from_list([{"prompt": "tea"}]),
        processing_class=backbone.tokenizer,
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )  # fmt: skip
    torch.manual_seed(1)
    adapter = [p for p in theirs.model.parameters() if p.requires_grad]
    for parameter in adapter:
        parameter.data.normal_(std=0.05)
    theirs.model.eval()
    forks = [Fork((5, 6, 7), ((40, 41, 42, 2), (50, 51))), Fork((8, 9), ((60, 61, 62), (70, 2)))]
    rows = [(fork.prompt, reply) for fork in forks for reply in fork.replies]
    score_S, group_S = torch.tensor([0.9, 0.1, 0.3, 0.8]), torch.tensor([0, 0, 1, 1])
    advantage_S = group_standardised(score_S, group_S, torch.ones(4, dtype=torch.bool))
    mask_ST = torch.tensor([[t < len(reply) for t in range(4)] for _, reply in rows])
    old_ST, ref_ST = -2 - torch.rand(4, 4), -2 - torch.rand(4, 4)

    inputs = {
        "prompt_ids": torch.tensor([[0] * (3 - len(p)) + list(p) for p, _ in rows]),
        "prompt_mask": torch.tensor([[0] * (3 - len(p)) + [1] * len(p) for p, _ in rows]),
        "completion_ids": torch.tensor([list(r) + [0] * (4 - len(r)) for _, r in rows]),
        "completion_mask": mask_ST.long(),
        "advantages": advantage_S,
        "old_per_token_logps": old_ST,
        "ref_per_token_logps": ref_ST,
        "num_items_in_batch": mask_ST.sum(),
    }
    theirs.current_gradient_accumulation_steps = 1
    expected = theirs._compute_loss(theirs.model, inputs)
    expected.backward()
    gradients = [parameter.grad.clone() for parameter in adapter]
    theirs.model.zero_grad()

    module = theirs.model.get_base_model()
    batch = laid_out(forks, layout="shared")
    hidden_ND = Policy(module).hidden(batch)
    told = told_tokens(hidden_ND, module.get_output_embeddings(), batch.target_N, temperature=HEAT)
    old_N, ref_N = old_ST[mask_ST], ref_ST[mask_ST]
    advantage_N = advantage_S[:, None].expand(4, 4)[mask_ST]
    weight_ST = {"sequences": weights_over_sequences, "tokens": weights_over_tokens}[average](mask_ST)
    loss_N = clipped_policy(told.logprob_N, old_N, advantage_N, epsilon=0.2).loss
    loss_N = loss_N + 0.1 * kl_penalty(told.logprob_N, old_N, ref_N)
    loss = (weight_ST[mask_ST] * loss_N).sum()
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert max(float(g.abs().max()) for g in gradients) > 1e-3
    for parameter, gradient in zip(adapter, gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-5)
