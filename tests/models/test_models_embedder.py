"""models/embedder: the same vectors as sentence-transformers gives, and the same in any company."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from dressage.models.embedder import PACKAGED, EmbedderError, Settings, packaged
from dressage.models.embedder.model import batches
from dressage.plugins import open_kind, settings_of
from dressage.protocols import Sampling, Vector

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "horse", "walks", "a", "slow", "circle"]
TEXTS = [
    "the horse walks",
    "",
    "a slow circle " * 30,
    "the horse walks a slow circle",
    "unknown words",
    "horse " * 31,
    "horse " * 7,
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of a few thousand weights, with an odd limit of positions."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=50).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=50, **sizes)
    BertModel(config).save_pretrained(folder)
    return folder


def embed(settings: Settings, texts: list[str]) -> list[tuple[float, ...]]:
    answers = open_kind(settings).embed(texts, done=lambda i, a: None)
    assert all(isinstance(a, Vector) for a in answers)
    return [a.values for a in answers]


def test_is_the_normalised_mean_of_the_last_hidden_states(tiny: Path) -> None:
    model, tokenizer = BertModel.from_pretrained(tiny).eval(), BertTokenizer.from_pretrained(tiny)
    found = embed(Settings(path=str(tiny), device="cpu"), TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        words = tokenizer.encode(text, add_special_tokens=False)
        pieces = [words[at : at + 48] for at in range(0, len(words) or 1, 48)]  # [CLS] and [SEP] make 50
        with torch.no_grad():
            hidden = [model(torch.tensor([[2, *piece, 3]])).last_hidden_state[0] for piece in pieces]
        mean_D = torch.cat(hidden).mean(0)
        torch.testing.assert_close(torch.tensor(vector), mean_D / mean_D.norm(), atol=1e-6, rtol=0)


def test_what_comes_after_the_limit_counts(tiny: Path) -> None:
    begun = "the horse walks " * 20
    one, other, short = embed(Settings(path=str(tiny)), [begun + "a slow circle", begun + "slow a horse", begun])
    assert len({one, other, short}) == 3


def test_a_vector_does_not_depend_on_its_neighbours(tiny: Path) -> None:
    model = open_kind(Settings(path=str(tiny), batch_size=4, device="cpu"))
    together = model.embed(TEXTS, done=lambda i, a: None)
    assert model.embed(TEXTS[::-1], done=lambda i, a: None) == together[::-1]
    assert [model.embed([text], done=lambda i, a: None)[0] for text in TEXTS] == together


def test_done_hears_every_answer_with_its_index(tiny: Path) -> None:
    heard: dict[int, Any] = {}
    answers = open_kind(Settings(path=str(tiny), batch_size=2)).embed(TEXTS, done=heard.__setitem__)
    assert [heard[i] for i in range(len(TEXTS))] == answers
    assert open_kind(Settings(path=str(tiny))).embed([], done=heard.__setitem__) == []


def test_batches_hold_one_length_each() -> None:
    assert list(batches([64, 32, 32, 64, 32], 2)) == [[1, 2], [4], [0, 3]]
    assert list(batches([], 2)) == []


def test_content_is_the_files_and_identity_the_weights(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    (copy / "README.md").write_text("a model card")
    here, there = Settings(path=str(tiny)), Settings(path=str(copy))
    assert here.content() == there.content()
    assert here.identity() == there.identity()
    before = open_kind(there).fingerprint
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert there.content() != here.content()
    assert there.identity() != here.identity()
    assert open_kind(there).fingerprint != before


def test_other_recipes_and_pickled_weights_are_refused(tiny: Path, tmp_path: Path) -> None:
    def broken(name: str, file: str, content: object) -> Settings:
        shutil.copytree(tiny, tmp_path / name)
        path = tmp_path / name / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        return Settings(path=str(tmp_path / name))

    with pytest.raises(EmbedderError, match="Dense"):
        open_kind(broken("dense", "modules.json", [{"type": "sentence_transformers.models.Dense"}]))
    for name, config in (("old", {"pooling_mode_cls_token": True}), ("new", {"pooling_mode": "cls"})):
        with pytest.raises(EmbedderError, match="only the mean is taken"):
            open_kind(broken(name, "1_Pooling/config.json", config))
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(EmbedderError, match="pickled weights are not loaded"):
        open_kind(Settings(path=str(pickled)))


def test_a_model_that_is_nowhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EmbedderError, match=r"'no-such/model'.*name a folder"):
        Settings(path="no-such/model").identity()


def test_gives_vectors_only(tiny: Path) -> None:
    settings = settings_of("models", "embedder")(path=str(tiny))
    model = open_kind(settings)
    assert (settings.embeds, settings.chats, settings.gives_labels(), model.paid) == (True, False, False, False)
    with pytest.raises(ValueError, match="vectors only"):
        model.complete([[]], sampling=Sampling(), seeds=[0], done=lambda i, a: None)
    with pytest.raises(ValueError, match="vectors only"):
        model.label_probabilities([[]], [("A",)], done=lambda i, a: None)


def test_gives_the_vectors_of_the_package_itself_in_any_company() -> None:
    package = pytest.importorskip(PACKAGED.replace("-", "_"))
    texts = [
        "Thank you for your patience; the parcel left our house this morning.",
        "Σ of a few cafés, 東京 and 😀 emoji.",
        "",
        "A short one.",
        "long words " * 100,  # within the limit of 256 tokens, after which the package cuts
    ]
    model = open_kind(Settings(device="cpu", batch_size=4))
    found = [answer.values for answer in model.embed(texts, done=lambda i, a: None)]
    reference = package.load_model(device="cpu").encode(texts)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(reference), atol=1e-5, rtol=0)
    alone = [model.embed([text], done=lambda i, a: None)[0].values for text in texts[:4]]
    assert alone == found[:4]  # to the last bit, as every batch has the same shape


def test_a_missing_package_says_how_to_get_it() -> None:
    with pytest.raises(EmbedderError, match=r"pip install 'dressage\[embedding\]'"):
        packaged("gt-no-such-package")
