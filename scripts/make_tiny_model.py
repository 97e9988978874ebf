#!/usr/bin/env python3
"""Make a tiny random chat model, for tests and smoke runs without a network or a GPU.

It has what a real one has (Llama architecture, safetensors, a tokenizer with a chat template, a generation
config) and knows nothing: its replies are a salad of the words below that ends by itself. The same
arguments give the same bytes.

    python scripts/make_tiny_model.py DIR [--seed 0] [--hidden 64] [--layers 2] [--vocab 512]
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, BOS, EOS = "<|pad|>", "<|im_start|>", "<|im_end|>"  # ids 0, 1, 2
SMALLEST_VOCAB = 256 + 3  # every byte and the special tokens
HEADS = 4
CONTEXT = 1024
# A random model would end a reply once in `vocab` tokens, and nearly every test would only see replies that
# hit their limit. Like this half of them end within some 30 tokens, and a limit of 32 shows both ways to end.
EOS_EVERY = 24
# How many times the constant direction of the hidden states outweighs the rest together; see `add_bias`.
CONSTANT = 4.0

# ChatML. Unlike many published models it adds no system prompt of its own.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

CORPUS = """\
system
user
assistant
You are a helpful assistant. Answer the question in a few short sentences.
What is the capital of France? The capital of France is Paris.
How do I cook rice? Rinse the rice, add two cups of water for each cup of rice, and let it simmer.
Please explain why the sky is blue. The air scatters blue light more than red light.
Write a short story about a dog. The dog ran to the river, found a stick, and came back to the house.
I am sorry to hear that. It sounds hard, and I am here to listen. Would you like to talk about it?
Thank you for your help! You are welcome. Let me know if there is anything else that I can do.
I do not know the answer to that question, and I would rather say so than make something up.
Is this true? No, that is not true. Some people think so, but there is no evidence for it.
Give me three reasons. First, it is simple. Second, it is fast. Third, it works for other people too.
Here is a list:
1. Read the question.
2. Think about what the person wants to know.
3. Write an answer, and check it again.
What is 12 + 30? The answer is 42, because 10 + 30 = 40 and 2 + 40 = 42.
My friend thinks that the earth is flat. Should I agree with her? You can be kind and still tell the truth.
The weather was cold, so they stayed in the house with a book and a cup of tea.
She said that she would come, but he did not know when. They waited for the train, and then it came.
In the morning the children go to school. In the evening they come home and play with their friends.
Can you help me with my work? Yes, of course. Tell me what you have done, and where you are stuck.
This is the best thing that I have ever seen! That is a good idea, and it could be even better.
To make bread you need flour, water, salt and time. Mix them, wait, and bake the bread until it is brown.
A good answer is clear, true and short. A bad answer is long, says nothing, or is not true.
"""


def make_tiny_model(
    folder: Path,
    *,
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    vocab: int = 512,
) -> Path:
    """Write the model into `folder`, which need not exist, and return it."""
    if hidden < 2 * HEADS or hidden % (2 * HEADS):
        raise ValueError(f"hidden is {hidden}; it must be a multiple of {2 * HEADS}")
    if layers < 1:
        raise ValueError(f"layers is {layers}; it must be at least 1")
    if vocab < SMALLEST_VOCAB:
        raise ValueError(f"vocab is {vocab}; it must be at least {SMALLEST_VOCAB}, every byte is a token")
    tokenizer = make_tokenizer(vocab)
    if len(tokenizer) < vocab:
        raise ValueError(f"vocab is {vocab}; the corpus yields only {len(tokenizer)} tokens")
    model = make_model(tokenizer, seed=seed, hidden=hidden, layers=layers)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tokenizer(vocab: int) -> Any:
    """A byte-level BPE tokenizer, trained on the corpus."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS.splitlines(keepends=True), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: Any, *, seed: int, hidden: int, layers: int) -> Any:
    """A random Llama, with grouped heads because most real ones have them."""
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        max_position_embeddings=CONTEXT,
        # Activations keep their size from layer to layer. With the usual 0.02 attention would be all but
        # uniform at this width, and a test would not notice wrong positions or an unmasked pad.
        initializer_range=hidden**-0.5,
        tie_word_embeddings=False,  # the output needs a row for EOS that the input does not have
        dtype=torch.float32,
        **ids,
    )
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are none of our business
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**ids)
    add_bias(model, log_frequencies(tokenizer))
    return model


def log_frequencies(tokenizer: Any) -> torch.Tensor:
    """How often each token is to be drawn: as often as in the corpus, and EOS once in EOS_EVERY tokens."""
    ids = torch.tensor(tokenizer(CORPUS)["input_ids"])
    counts = torch.bincount(ids, minlength=len(tokenizer)).double()
    counts += 0.01  # everything stays possible, but bytes that are no text, and PAD and BOS, become rare
    counts[tokenizer.eos_token_id] = counts.sum() / (EOS_EVERY - 1)
    return (counts / counts.sum()).log().float()


@torch.no_grad()
def add_bias(model: Any, bias: torch.Tensor) -> None:
    """Add `bias` to the logits, as nearly as a Llama can, which has no bias.

    Scaling the EOS row of the lm_head would not do: its product with a random hidden state is as often
    negative as positive, so that some replies end at once and the others never. Hence a constant: the first
    dimension of the hidden states is the same for every token, no layer reads it or writes to it, and the
    first column of the lm_head is the bias. The other dimensions make the logits depend on the text.
    """
    hidden = model.config.hidden_size
    embeddings = model.model.embed_tokens.weight
    embeddings /= model.config.initializer_range  # to unit variance
    embeddings[:, 0] = CONSTANT * math.sqrt(hidden)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0
        layer.mlp.down_proj.weight[0] = 0
        for norm in (layer.input_layernorm, layer.post_attention_layernorm):
            norm.weight.fill_(CONSTANT)  # the constant makes up most of the norm; undo that for the others
            norm.weight[0] = 0
    model.model.norm.weight.fill_(CONSTANT / 2)  # by half: the text should not outshout the bias
    model.model.norm.weight[0] = 1
    model.lm_head.weight[:, 0] = bias / math.sqrt(hidden)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make a tiny random chat model, for tests and smoke runs.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hidden", type=int, default=64, help=f"width, a multiple of {2 * HEADS}")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocab", type=int, default=512, help=f"at least {SMALLEST_VOCAB}")
    options = parser.parse_args(arguments)
    try:
        print(make_tiny_model(**vars(options)))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
