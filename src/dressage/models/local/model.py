"""A local model, opened: samples replies, reads label probabilities, scores given replies, wears adapters."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from dressage import tokens
from dressage.models.local import Settings, rewarding, scoring, weights
from dressage.models.local.backbone import Backbone, Worn
from dressage.models.local.sampler import Draw, sample
from dressage.protocols import Completion, Conversation, Distribution, Done, Sampling, Score, Trouble, Vector
from dressage.records import Usage, content_hash

if TYPE_CHECKING:
    from dressage.models.local.vllm.server import Server


def open(settings: Settings) -> "LocalModel":
    """Loads the weights, frozen.

    Raises:
        ValueError: where files are missing or unusable, or the architecture is not supported.
    """
    source, content = settings.resolve(), settings.content()
    worn = source.adapter
    return LocalModel(Backbone(settings), worn, rows=settings.rows, content=content, server=_server(settings))


def _server(settings: Settings) -> "Server | None":
    """Who draws in the model's place; its client is imported where there is one."""
    if settings.sampler is None:
        return None
    from dressage.models.local.vllm.server import Server

    return Server(settings.sampler)


class LocalModel:
    """A role on a shared backbone: the base under one adapter or none. See protocols.Model, Backbone."""

    paid = False
    """Also where a server draws: under its seed a reply can be had again, but for rounding."""

    def __init__(
        self,
        backbone: Backbone,
        worn: Worn,
        *,
        rows: int,
        content: object,
        server: "Server | None",
        root: bool = True,
    ) -> None:
        self._backbone, self._worn, self._rows, self._content, self._root = (
            backbone,
            worn,
            rows,
            content,
            root,
        )
        self._server = server
        self.fingerprint = content_hash(content)
        self.tokenizer = backbone.tokenizer
        self.adapter = worn if isinstance(worn, Path) else None
        self._ends = tokens.end_ids(self.tokenizer, backbone.module.generation_config)

    @property
    def module(self) -> Any:
        """The frozen transformers module, without any adapter that was loaded here."""
        return self._backbone.pristine()

    @property
    def facts(self) -> dict[str, str | int]:
        """What this machine chose: device, dtype, threads; who draws, if not this model here; whether in 4 bits."""
        told: dict[str, str | int] = {"sampler": self._server.said()} if self._server else {}
        if getattr(self._backbone.module, "is_loaded_in_4bit", False):
            told["weights"] = "4 bits"
        return {
            "device": str(self._backbone.device),
            "dtype": str(self._backbone.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            **told,
        }

    def wearing(self, adapter: Path | None) -> "LocalModel":
        """The same backbone under another adapter (frozen), or under none; it has its own fingerprint.

        Raises:
            ValueError: where the folder is no peft adapter.
        """
        worn = weights.checked_adapter(Path(adapter)) if adapter else None
        content = {"on": self._content, "adapter": weights.hashes(worn) if worn else None}
        return self._view(worn, content)

    def as_is(self, *names: object) -> "LocalModel":
        """The backbone with whatever adapter is active right now: how a trainer draws from its policy. `names` say
        which policy that is (the run's stage, the update), for the fingerprint of what it draws."""
        content = {"on": self._content, "adapter": ["as is", *names]}
        return self._view("as is", content)

    def _view(self, worn: Worn, content: object) -> "LocalModel":
        return LocalModel(self._backbone, worn, rows=self._rows, content=content, server=self._server, root=False)

    def complete(
        self, conversations: Sequence[Conversation], *, sampling: Sampling, seeds: Sequence[int], done: Done
    ) -> list[Completion | Trouble]:
        """One reply a conversation; equal conversations in a row share the work on their prompt.

        Raises:
            SamplerStopped: the server that draws is away, or is not the one that the settings say.
        """
        answers: dict[int, Completion | Trouble] = {}

        def answer(index: int, given: Completion | Trouble) -> None:
            answers[index] = given
            done(index, given)

        draws = []
        for index, (ids, seed) in enumerate(zip(self._prompts(conversations), seeds, strict=True)):
            trouble = self._too_long(len(ids), sampling.max_new_tokens)
            if trouble:
                answer(index, trouble)
            else:
                draws.append(Draw(index, tuple(ids), seed))
        if self._server:
            self._server.draw(
                self._backbone,
                self._worn,
                draws=draws,
                sampling=sampling,
                ends=self._ends,
                told=lambda draw, trouble: answer(draw.index, trouble or self._completion(draw)),
            )
            return [answers[i] for i in range(len(conversations))]
        with self._backbone.role(self._worn) as module:
            sample(
                module,
                draws,
                sampling=sampling,
                ends=self._ends,
                within=(self._rows, self._backbone.limits()),
                finished=lambda draw: answer(draw.index, self._completion(draw)),
            )
        return [answers[i] for i in range(len(conversations))]

    def label_probabilities(
        self, conversations: Sequence[Conversation], labels: Sequence[tuple[str, ...]], *, done: Done
    ) -> list[Distribution | Trouble]:
        """Next-token probability of each label, summed over its one-token spellings.

        Raises:
            ValueError: where a label is no single token, or two labels of a question share one.
        """
        spelt = [self._spellings(offered) for offered in labels]
        rendered = self._prompts(conversations)
        prompts = [ids + self._lead(c, ls) for ids, c, ls in zip(rendered, conversations, labels, strict=True)]
        answers: dict[int, Distribution | Trouble] = {}
        asked = []
        for index, ids in enumerate(prompts):
            trouble = self._too_long(len(ids), 1)
            if trouble:
                answers[index] = trouble
                done(index, trouble)
            else:
                asked.append(index)

        def read(at: int, probability_V: torch.Tensor) -> None:
            index = asked[at]
            by_label = {label: float(probability_V[list(ids)].sum()) for label, ids in spelt[index].items()}
            answers[index] = Distribution(probabilities=by_label, usage=Usage(read=len(prompts[index]), written=1))
            done(index, answers[index])

        with self._backbone.role(self._worn) as module:
            limits = self._backbone.limits()
            scoring.next_token(module, [prompts[i] for i in asked], limits=limits, read=read)
        return [answers[i] for i in range(len(conversations))]

    def embed(self, texts: Sequence[str], *, done: Done) -> list[Vector | Trouble]:
        """Refuses: this kind embeds nothing.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "a model of kind: local writes words and has no embeddings; name one of kind: embedding instead"
        )

    def logprobs(
        self,
        conversations: Sequence[Conversation],
        replies: Sequence[Sequence[int]],
        *,
        of: Literal["policy", "base"] = "policy",
        temperature: float = 1.0,
    ) -> list[list[float]]:
        """Log-probability (nats) of every token of every reply; `base` is without any adapter.

        Raises:
            ValueError: where a conversation and its reply are longer than the context.
        """
        prompts = self._prompts(conversations)
        for prompt, reply in zip(prompts, replies, strict=True):
            trouble = self._too_long(len(prompt), len(reply))
            if trouble:
                raise ValueError(f"a reply cannot be scored: {trouble.detail}; leave this row out")
        with self._backbone.role(self._worn if of == "policy" else None) as module:
            return scoring.reply_logprobs(
                module, prompts, replies, temperature=temperature, limits=self._backbone.limits()
            )

    def scalars(self, conversations: Sequence[Conversation], adapter: str, *, done: Done) -> list[Score | Trouble]:
        """The scores of the reward model in that folder, one a conversation that ends with the assistant's turn.

        It is worn in place of whatever this role wears; common beginnings are computed once.

        Raises:
            ValueError: where the folder is no reward model of this one, or a conversation ends otherwise.
        """
        worn = weights.checked_adapter(Path(adapter))
        width = self._backbone.module.config.get_text_config().hidden_size
        head = rewarding.head_of(worn, width=width, device=self._backbone.device)
        sequences = [self._finished(conversation) for conversation in conversations]
        answers: dict[int, Score | Trouble] = {}

        def answer(index: int, given: Score | Trouble) -> None:
            answers[index] = given
            done(index, given)

        asked = []
        for index, ids in enumerate(sequences):
            trouble = self._too_long(len(ids), 0)
            if trouble:
                answer(index, trouble)
            else:
                asked.append(index)

        def read(at: int, hidden_D: torch.Tensor) -> None:
            usage = Usage(read=len(sequences[asked[at]]))
            answer(asked[at], Score(raw=head.score(hidden_D), deviation=head.scale.deviation, usage=usage))

        with self._backbone.role(worn) as module:
            limits = self._backbone.limits()
            scoring.last_hidden(module, [sequences[i] for i in asked], limits=limits, read=read)
        return [answers[i] for i in range(len(conversations))]

    def reply_ids(self, prompt_messages: Conversation, text: str) -> list[int]:
        """Token ids of `text` as the assistant's turn, with the token that ends it. See tokens.reply_ids."""
        with self._backbone.tokenizer_lock:
            return tokens.reply_ids(self.tokenizer, prompt_messages, text)

    def prompt_tokens(self, conversation: Conversation) -> int:
        return len(self._prompts([conversation])[0])

    def context(self) -> int | None:
        """Of whoever draws, and of this model: the shorter one."""
        known = [self._backbone.context(), self._server.context() if self._server else None]
        return min((longest for longest in known if longest is not None), default=None)

    def close(self) -> None:
        """Frees the weights; closing a view made by `wearing` leaves them to the others."""
        if self._root:
            if self._server:
                self._server.close()
            self._backbone.drop()

    def _prompts(self, conversations: Sequence[Conversation]) -> list[list[int]]:
        rendered: dict[tuple[tuple[str, str], ...], list[int]] = {}
        found = []
        with self._backbone.tokenizer_lock:
            for conversation in conversations:
                key = tuple((m.role, m.content) for m in conversation)
                if key not in rendered:
                    rendered[key] = tokens.prompt_ids(self.tokenizer, conversation)
                found.append(rendered[key])
        return found

    def _finished(self, conversation: Conversation) -> list[int]:
        """The ids of a conversation up to the token that ends its last turn, the assistant's."""
        *prompt, reply = conversation
        if not prompt or reply.role != "assistant":
            raise ValueError("a reward model scores a reply: the conversation must end with the assistant's turn")
        return self._prompts([prompt])[0] + self.reply_ids(prompt, reply.content)

    def _lead(self, conversation: Conversation, labels: tuple[str, ...]) -> list[int]:
        """The blank between an answer that was begun and its label, where it is a token of its own."""
        last = conversation[-1]
        if last.role != "assistant" or last.content[-1:].isspace():
            return []
        with self._backbone.tokenizer_lock:
            return tokens.label_lead(self.tokenizer, labels)

    def _too_long(self, prompt: int, reply: int) -> Trouble | None:
        context = self._backbone.context()
        if context is None or prompt + reply <= context:
            return None
        return Trouble(
            reason="prompt too long",
            detail=f"{prompt} tokens of prompt and {reply} of reply, in a context of {context}",
        )

    def _spellings(self, labels: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
        with self._backbone.tokenizer_lock:
            spelt = {label: tokens.label_ids(self.tokenizer, label) for label in labels}
        every = [i for ids in spelt.values() for i in ids]
        if len(every) != len(set(every)):
            raise ValueError(f"labels {labels} share a token, so their probabilities overlap; offer distinct ones")
        return spelt

    def _completion(self, draw: Draw) -> Completion:
        words = draw.token_ids[:-1] if draw.finish == "stop" else draw.token_ids
        with self._backbone.tokenizer_lock:
            text = tokens.reply_text(self.tokenizer, words)
        return Completion(
            text=text,
            finish=draw.finish,
            token_ids=tuple(draw.token_ids),
            logprobs=tuple(draw.logprobs),
            # A server's own would not do as a trainer's reference: they are another engine's.
            logprobs_at_1=None if self._server else tuple(draw.logprobs_at_1),
            usage=Usage(read=len(draw.prompt), written=len(draw.token_ids)),
        )
