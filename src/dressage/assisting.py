"""What a follower does when the leader of its company calls: its share of a training, without a word and a file."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from dressage import config
from dressage.accounts import Accounts
from dressage.company import Company
from dressage.fingerprints import inputs_of
from dressage.protocols import Sampling
from dressage.stages._stage import Cast, Here
from dressage.standing import stage_folder


class Silent:
    """protocols.Progress for nobody."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda units: None

    def say(self, line: str) -> None:
        """The leader says it."""


def assist(company: Company) -> None:
    """Takes part in every training the leader begins, until it ends.

    Raises:
        Ended: the leader ended with an error.
        StageError, RuntimeError …: this process cannot do its share.
    """
    for call in company.calls():
        _own_gpu()
        _share(Path(call["place"]), key=call["key"], model=call["model"])


def _own_gpu() -> None:
    """Each process of a machine its own GPU, where it has some; the leader's is the first."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _share(place: Path, *, key: str, model: Mapping[str, str]) -> None:
    """One training, in a stage's folder that the leader has prepared."""
    from dressage.stages import train

    folder = place.parents[1]
    settings = config.load(folder / "config.yaml")  # resolved by the leader
    assert settings.train is not None
    cast = Cast(settings.models, settings.judges, seed=settings.seed, accounts=Accounts(folder / "spending.jsonl"))
    with closing(cast):
        here = Here(
            folder=place,
            inputs={stage: stage_folder(folder, stage) for stage in inputs_of(settings, "train")},
            key=key,
            seed=settings.seed,
            round=0,
            cast=cast,
            progress=Silent(),
            log=lambda row: None,
            forget=lambda after: None,
            note=lambda: None,
        )
        sampling = settings.data.sampling if settings.data else Sampling()
        policy = train.Policy(settings.policy, sampling=sampling, reward=settings.judge)
        train.assist(here, settings.train, policy=policy, model=model)
