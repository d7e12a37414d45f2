"""Words to ids: any text survives, transformers reads the same ids, and unknown words are named."""

import json
import sys

import pytest
import torch

from mutoscope.models.tokenizer import SMALLEST_VOCABULARY, Tokenizer, clean, words_of
from mutoscope.video import Refusal

CAPTIONS = [
    "A man walking in the rain.",
    "a red fox runs to the left at night, pencil sketch",
    "two men walk through fog; the camera follows",
    "a woman's umbrella in the wind",
    "boxes on a beach at sunset, paper cut-out",
] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(CAPTIONS, 340)


@pytest.mark.parametrize(
    "text",
    [
        "a man walking in the rain",
        "never seen: zebra!",
        "caf\u00e9 \U0001f996 in the rain",
        "\u96e8\u306e\u4e2d",
        "<b>5 > 3</b>",
    ],
)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode([text])
    assert tokenizer.decode(tokens.ids[0]) == text.lower()


def test_case_and_white_space_do_not_matter(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(["a red fox", "  A  RED\n fox "])
    assert torch.equal(tokens.ids[0], tokens.ids[1])


def test_known_words_are_single_tokens(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(["rain"])
    assert tokens.ids.shape == (1, 2)  # the word and </s>


def test_every_row_ends_with_end_then_padding(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(["a man", "a red fox runs to the left at night", ""])
    end, pad = tokenizer.encode([""]).ids[0, 0], 0
    lengths = tokens.mask.sum(1)
    assert lengths[2] == 1 and lengths.max() == tokens.ids.shape[1]
    for row, length in zip(tokens.ids, lengths, strict=True):
        assert row[length - 1] == end
        assert (row[length:] == pad).all() and not (row[: length - 1] == end).any()
    assert torch.equal(tokens.mask.sort(dim=1, descending=True).values, tokens.mask)


def test_fixed_length_pads_and_cuts_but_keeps_the_end(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(["a man", "the camera follows a red fox at night in the rain"], length=6)
    assert tokens.ids.shape == (2, 6) and tokens.mask[1].all()
    assert tokens.ids[1, -1] == tokenizer.encode([""]).ids[0, 0]
    assert tokenizer.encode(["rain " * 600]).ids.shape == (1, 512)
    assert tokenizer.encode(["rain " * 600], at_most=20).ids.shape == (1, 20)


def test_no_texts_and_a_bare_text(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([]).ids.shape == (0, 0)
    with pytest.raises(TypeError, match="list"):
        tokenizer.encode("a man")


def test_training_is_repeatable_and_bounded(tokenizer: Tokenizer) -> None:
    again = Tokenizer.train(CAPTIONS, 340)
    assert torch.equal(again.encode(CAPTIONS).ids, tokenizer.encode(CAPTIONS).ids)
    assert tokenizer.vocabulary_size == 340
    assert int(tokenizer.encode(CAPTIONS).ids.max()) < 340


def test_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(Refusal, match=str(SMALLEST_VOCABULARY)):
        Tokenizer.train(CAPTIONS, 100)


def test_save_and_load(tokenizer: Tokenizer, tmp_path) -> None:
    loaded = Tokenizer.load(tokenizer.save(tmp_path / "tokenizer"))
    texts = ["A man & a fox \U0001f98a", "rain"]
    assert torch.equal(loaded.encode(texts).ids, tokenizer.encode(texts).ids)
    assert loaded.words == tokenizer.words and "umbrella" in loaded.words
    config = json.loads((tmp_path / "tokenizer" / "tokenizer_config.json").read_text())
    assert config == {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>"}


def test_transformers_reads_the_same_ids(tokenizer: Tokenizer, tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    public = transformers.PreTrainedTokenizerFast.from_pretrained(tokenizer.save(tmp_path))
    texts = [
        "A man walking in the rain",
        "ZEBRA \U0001f993",
        "",
        "the camera follows a red fox at night in the rain, 1.5x",
    ]
    theirs = public(texts, padding="max_length", max_length=12, truncation=True, return_tensors="pt")
    ours = tokenizer.encode(texts, length=12)
    assert torch.equal(theirs.input_ids, ours.ids)
    assert torch.equal(theirs.attention_mask.bool(), ours.mask)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_missing_and_broken_files_are_named(tokenizer: Tokenizer, tmp_path, name: str) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(Refusal, match=name):
        Tokenizer.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(Refusal, match=name):
        Tokenizer.load(tmp_path)


def test_config_for_other_tokens_is_refused(tokenizer: Tokenizer, tmp_path) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": {"content": "[PAD]"}}')
    with pytest.raises(Refusal, match=r"\[PAD\]"):
        Tokenizer.load(tmp_path)


def test_without_a_word_list_nothing_is_unknown(tokenizer: Tokenizer, tmp_path) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "words.json").unlink()
    assert Tokenizer.load(tmp_path).unknown_words("a zebra") == []


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("A MAN walking, in the Rain!", []),
        ("a zebra and a Giraffe; a zebra", ["zebra", "and", "giraffe"]),
        ("foxes, umbrellas and a box", ["and"]),
        ("the man\u2019s umbrella", []),
        ("a cut-out beach", []),
        ("", []),
        ("\U0001f996 ... 42", ["42"]),
    ],
)
def test_unknown_words(tokenizer: Tokenizer, text: str, unknown: list[str]) -> None:
    assert tokenizer.unknown_words(text) == unknown


def test_words_of_a_text() -> None:
    assert words_of("The man's  hat &amp; a top-hat, isn't_it") == [
        "the",
        "man",
        "hat",
        "a",
        "top",
        "hat",
        "isn't",
        "it",
    ]


@pytest.mark.parametrize(
    "text", ["  a \n b ", "1 &amp;lt; 2", "&amp;quot;hi&quot;", "\u00a0a\u2003b", "plain"]
)
def test_cleaning_is_what_public_pipelines_do(text: str, monkeypatch) -> None:
    wan = pytest.importorskip("diffusers.pipelines.wan.pipeline_wan")
    monkeypatch.setattr(sys.modules[wan.__name__], "is_ftfy_available", lambda: False)
    assert clean(text) == wan.prompt_clean(text)
