"""PPO: the KL is taken off the reward token by token, and a critic's values make the advantages.

S samples · T tokens of a reply.
"""

from functools import partial

from dressage.maths.advantages import Advantages, gae, token_rewards, whitened
from dressage.maths.kl import k1
from dressage.protocols import Practice
from dressage.trainers._on_policy.learner import CriticRates
from dressage.trainers._on_policy.loop import Algorithm, OnPolicy
from dressage.trainers._on_policy.rollout import Rollout
from dressage.trainers.ppo import AdapterSettings, Settings


def open(settings: Settings, *, practice: Practice) -> OnPolicy:
    critic = settings.critic
    return OnPolicy(
        settings,
        practice,
        Algorithm(
            advantages=partial(advantages, gamma=settings.gamma, lam=settings.lam),
            critic=CriticRates(critic.learning_rate, critic.clip, critic.max_grad_norm, critic.warmup_updates),
            critic_lora=critic.lora if isinstance(critic, AdapterSettings) else None,
        ),
    )


def advantages(rollout: Rollout, beta: float, *, gamma: float, lam: float) -> Advantages:
    """r_t = −β k1_t + [t = last] s, then GAE, then whitened over the update (arXiv:1909.08593, arXiv:1506.02438)."""
    assert rollout.value_ST is not None
    kl_ST = k1(rollout.old_logprob_ST, rollout.ref_logprob_ST)
    reward_ST = token_rewards(rollout.score_S, kl_ST, rollout.mask_ST, coefficient=beta)
    found = gae(reward_ST, rollout.value_ST, rollout.mask_ST, gamma=gamma, lam=lam)
    return found._replace(advantage_ST=whitened(found.advantage_ST, rollout.mask_ST))
