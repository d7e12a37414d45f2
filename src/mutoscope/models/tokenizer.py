"""Words to numbers, and which words a model has met.

Byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2), lower-cased, trained on the captions of a data set,
so a few hundred tokens cover a small world and any other text, emoji too, still has an encoding. Every text
ends with `</s>`.

On disk it is `tokenizer.json` with `tokenizer_config.json`, which transformers opens as
`PreTrainedTokenizerFast` with the same ids, and `words.json`: the words of the captions. A word outside that
list was never learned; a caller can say so instead of drawing something else.
"""

import html
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
from jaxtyping import Bool, Int
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from mutoscope.video import Refusal

PAD, END = "<pad>", "</s>"
SMALLEST_VOCABULARY = 256 + 2
"""Every byte, padding and the end: with fewer there would be texts without an encoding."""


def clean(text: str) -> str:
    """What public Wan pipelines do to a prompt: HTML entities resolved (twice), white space collapsed, ends
    stripped.

    They also run `ftfy.fix_text` where that package happens to be installed. It would make curly quotes
    straight, ligatures and full-width letters plain, undo wrongly decoded UTF-8, and remove control
    characters; we leave all of that as it is, as they do without ftfy, so that the same words give the same
    video on every machine.
    """
    return re.sub(r"\s+", " ", html.unescape(html.unescape(text))).strip()


def words_of(text: str) -> list[str]:
    """The words of a text in order: lower case, without punctuation and possessive 's; hyphens separate."""
    words = re.findall(
        r"[^\W_]+(?:'[^\W_]+)*", clean(text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    return [word.removesuffix("'s") for word in words]


@dataclass(frozen=True)
class Tokens:
    """Encoded texts: `ids` "b n" and `mask` "b n", True for real tokens, which come first; the rest is
    padding."""

    ids: Int[Tensor, "b n"]
    mask: Bool[Tensor, "b n"]


class Tokenizer:
    """Texts to token ids. Make one with `train` or `load`.

    Attributes:
        words: the words of the captions it was trained on, sorted; empty if that is not known (public
        tokenizers).
    """

    def __init__(
        self, model: tokenizers.Tokenizer, words: Iterable[str] = (), *, pad: str = PAD, end: str = END
    ) -> None:
        self.words = tuple(sorted(set(words)))
        self._known = frozenset(self.words)
        self._model = model
        self._pad, self._end = (self._id(token) for token in (pad, end))

    def _id(self, token: str) -> int:
        number = self._model.token_to_id(token)
        if number is None:
            raise Refusal(
                f"the tokenizer has no token {token!r}; tokenizer.json and tokenizer_config.json do not match"
            )
        return number

    @classmethod
    def train(cls, captions: Iterable[str], vocabulary_size: int) -> "Tokenizer":
        """Learn the tokens of some captions: at most `vocabulary_size` of them, fewer if there is no more to
        merge.

        Raises Refusal if the size is below 258, which is every byte and the two special tokens.
        """
        if vocabulary_size < SMALLEST_VOCABULARY:
            raise Refusal(
                f"a vocabulary of {vocabulary_size} is too small; use at least {SMALLEST_VOCABULARY}"
            )
        texts = [clean(caption) for caption in captions]
        model = _untrained()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=[PAD, END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        model.train_from_iterator(texts, trainer)
        end = (END, model.token_to_id(END))
        model.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[end])
        return cls(model, (word for text in texts for word in words_of(text)))

    @property
    def vocabulary_size(self) -> int:
        """How many rows a text encoder needs for these tokens."""
        return self._model.get_vocab_size()

    def encode(self, texts: Sequence[str], *, length: int | None = None, at_most: int = 512) -> Tokens:
        """Clean and encode texts, padded to the longest, or to exactly `length`.

        Longer texts are cut to `length` or `at_most` tokens, the last one `</s>`, as public pipelines do.
        """
        if isinstance(texts, str):
            raise TypeError("encode takes a list of texts; wrap the one text in a list")
        limit = at_most if length is None else length
        rows = [encoding.ids for encoding in self._model.encode_batch([clean(text) for text in texts])]
        rows = [row if len(row) <= limit else [*row[: limit - 1], self._end] for row in rows]
        width = max(map(len, rows), default=0) if length is None else length
        ids = torch.tensor([row + [self._pad] * (width - len(row)) for row in rows], dtype=torch.long)
        lengths = torch.tensor([[len(row)] for row in rows], dtype=torch.long)
        return Tokens(ids.view(len(rows), width), torch.arange(width) < lengths.view(-1, 1))

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """The text of some ids, lower-cased, without padding and end."""
        return self._model.decode([int(number) for number in ids], skip_special_tokens=True).strip()

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that no caption had, in order, each once; a plural 's' or 'es' more or less is
        forgiven.

        Empty if `words` is: a tokenizer that came without a list cannot tell.
        """
        if not self.words:
            return []
        return [
            word for word in dict.fromkeys(words_of(text)) if not self._known & _with_and_without_plural(word)
        ]

    def save(self, folder: str | Path) -> Path:
        """Write tokenizer.json, tokenizer_config.json and words.json into a folder, which is made if
        missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        pad, end = (self._model.id_to_token(number) for number in (self._pad, self._end))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": pad, "eos_token": end}
        (folder / "tokenizer.json").write_text(self._model.to_str(pretty=True), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (folder / "words.json").write_text(
            json.dumps(self.words, indent=0, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Read what `save` wrote, or a public folder with tokenizer.json. Refusal if a file is missing or
        broken."""
        folder = Path(folder)
        config = _read_json(folder / "tokenizer_config.json")
        words = _read_json(folder / "words.json") if (folder / "words.json").exists() else []
        text = _read_text(folder / "tokenizer.json")
        try:
            model = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise Refusal(f"{folder / 'tokenizer.json'} is no tokenizer: {error}") from error
        model.no_padding()
        model.no_truncation()
        return cls(model, words, pad=_token(config, "pad_token", PAD), end=_token(config, "eos_token", END))


def _untrained() -> tokenizers.Tokenizer:
    # Text that starts with a word must give that word's usual token, hence the space in front.
    model = tokenizers.Tokenizer(models.BPE())
    model.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    model.decoder = decoders.ByteLevel()
    return model


def _with_and_without_plural(word: str) -> set[str]:
    forms = {word, f"{word}s", f"{word}es"}
    return forms | {word.removesuffix(ending) for ending in ("s", "es") if len(word) > len(ending) + 1}


def _token(config: dict[str, Any], name: str, otherwise: str) -> str:
    token = config.get(name, otherwise)
    return token["content"] if isinstance(token, dict) else token


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise Refusal(f"{path} is not JSON: {error}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        needed = "a tokenizer folder holds tokenizer.json and tokenizer_config.json"
        raise Refusal(f"{path} cannot be read ({error.strerror}); {needed}") from error
