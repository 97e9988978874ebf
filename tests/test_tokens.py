"""Rendering, reply ids and labels, against ids written out by hand."""

from types import SimpleNamespace

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dressage import tokens
from dressage.records import Message

WORDS = ["<pad>", "<|im_start|>", "<|im_end|>", "user", "assistant", "\n", "hi", "there", "A", " A", "<", "|"]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """One id a word of WORDS; letters that are in none become <pad>."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(" ?A|\\n|hi|there|user|assistant|<|[|]"), "isolated")
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
    )
    made.chat_template = template
    return made


def said(*texts: str) -> list[Message]:
    return [Message(role="user" if i % 2 == 0 else "assistant", content=text) for i, text in enumerate(texts)]


def ids(*words: str) -> list[int]:
    return [WORDS.index(word) for word in words]


HEAD = ids("<|im_start|>", "user", "\n", "hi", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n")


def test_a_prompt_ends_where_the_reply_begins():
    assert tokens.prompt_ids(tokenizer(), said("hi")) == HEAD


def test_a_last_assistant_message_is_left_open():
    assert tokens.prompt_ids(tokenizer(), said("hi", "there")) == HEAD + ids("there")


def test_a_reply_ends_with_the_end_of_its_turn_and_not_with_what_the_template_writes_after():
    assert tokens.reply_ids(tokenizer(), said("hi"), "there") == ids("there", "<|im_end|>")


def test_an_empty_reply_is_only_its_end():
    assert tokens.reply_ids(tokenizer(), said("hi"), "") == ids("<|im_end|>")


def test_control_tokens_in_a_message_are_ordinary_text():
    found = tokens.prompt_ids(tokenizer(), said("hi<|im_end|>there"))
    assert found.count(WORDS.index("<|im_end|>")) == 1
    assert tokens.reply_ids(tokenizer(), said("hi"), "<|im_end|>there").count(WORDS.index("<|im_end|>")) == 1


def test_a_template_that_rewrites_the_prompt_is_refused():
    rewriting = CHATML.replace("{% for", "{% if messages|length > 1 %}there{% endif %}{% for", 1)
    with pytest.raises(ValueError, match="writes the prompt differently"):
        tokens.reply_ids(tokenizer(rewriting), said("hi"), "there")


def test_a_turn_without_an_end_is_refused():
    endless = CHATML.replace("<|im_end|>", "|")
    with pytest.raises(ValueError, match="ends the assistant's turn"):
        tokens.reply_ids(tokenizer(endless), said("hi"), "there")


def test_no_template_and_no_message_are_refused():
    with pytest.raises(ValueError, match="no chat template"):
        tokens.prompt_ids(tokenizer(None), said("hi"))
    with pytest.raises(ValueError, match="without messages"):
        tokens.prompt_ids(tokenizer(), [])


def test_end_ids_join_the_generation_config_and_the_tokenizer():
    assert tokens.end_ids(tokenizer()) == {2}
    assert tokens.end_ids(tokenizer(), SimpleNamespace(eos_token_id=[0, 1])) == {0, 1, 2}
    assert tokens.end_ids(tokenizer(), SimpleNamespace(eos_token_id=7)) == {2, 7}


def test_a_label_counts_with_and_without_a_blank_and_must_be_one_token():
    assert tokens.label_ids(tokenizer(), "A") == (WORDS.index("A"), WORDS.index(" A"))
    assert tokens.label_ids(tokenizer(), "there") == (WORDS.index("there"),)
    with pytest.raises(ValueError, match="'AA' is no single token"):
        tokens.label_ids(tokenizer(), "AA")


def test_reply_text_leaves_control_tokens_out():
    assert tokens.reply_text(tokenizer(), ids("hi", "<|im_start|>", "<|im_end|>")) == "hi"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("plain", "plain"),
        ("<think>why\nnot</think>\nyes", "yes"),
        ("\n <think>1</think>\n<think>2</think> c", "c"),
        ("<think>never closed, A is better", ""),
        ("<think>1</think><think>never closed", ""),
        ("<think>a<think>b</think>c</think>d", "c</think>d"),
        ("a<think>1</think>b", "a<think>1</think>b"),
        ("Refunds are impossible.</think>Of course!", "Refunds are impossible.</think>Of course!"),
        ("Use the tag <think> in your prompt, then write.", "Use the tag <think> in your prompt, then write."),
    ],
)
def test_only_thoughts_at_the_start_are_left_out(text: str, left: str):
    assert tokens.without_thinking(text) == left
    assert tokens.without_thinking(left) == left


def test_a_blank_that_is_a_token_of_its_own_is_read_before_the_labels():
    apart = Tokenizer(models.WordLevel({" ": 0, "1": 1, "2": 2, "<unk>": 3}, unk_token="<unk>"))
    apart.pre_tokenizer = pre_tokenizers.Split(Regex(" |[0-9]"), "isolated")
    joined = Tokenizer(models.WordLevel({" 1": 0, "1": 1, " 2": 2, "2": 3, "<unk>": 4}, unk_token="<unk>"))
    joined.pre_tokenizer = pre_tokenizers.Split(Regex(" ?[0-9]"), "isolated")
    assert tokens.label_lead(PreTrainedTokenizerFast(tokenizer_object=apart), ["1", "2"]) == [0]
    assert tokens.label_lead(PreTrainedTokenizerFast(tokenizer_object=joined), ["1", "2"]) == []
