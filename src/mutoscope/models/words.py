"""From captions to what the transformer attends: tokenizer and text encoder as one.

The one place where training and generating turn text into rows, so that both cut, pad and mask alike.
"""

from collections.abc import Sequence

from torch import nn

from mutoscope.models.text import Text, TextEncoder
from mutoscope.models.tokenizer import Tokenizer, Tokens

__all__ = ["Words"]


class Words(nn.Module):
    """A tokenizer and the encoder trained with it.

    `padded_to` is the number of rows the transformer attends in all, zero rows included: 512 in the public
    pipelines.
    """

    def __init__(self, tokenizer: Tokenizer, encoder: TextEncoder, *, padded_to: int = 512) -> None:
        super().__init__()
        self.tokenizer, self.encoder, self.padded_to = tokenizer, encoder, padded_to

    def forward(self, tokens: Tokens) -> Text:
        """Encode tokens, `ids` and `mask` "b n"."""
        device = self.encoder.tokens.weight.device
        ids, mask = tokens.ids.to(device), tokens.mask.to(device)
        return Text(self.encoder(ids, mask), mask, self.padded_to)

    def say(self, captions: Sequence[str], *, length: int | None = None) -> Text:
        """Encode captions, padded to the longest or to `length` tokens."""
        return self(self.tokenizer.encode(captions, length=length, at_most=self.padded_to))
