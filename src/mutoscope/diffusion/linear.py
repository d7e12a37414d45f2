"""The best linear guess of a film, from every patch and from what all frames share of it.

    patch of frame f = mean + still + change_f,        noisy_f = alpha_f patch_f + sigma_f noise_f

What stands still is alike in all frames, but for the noise; what changes, each frame has to itself. Along the
principal directions of patches all of these are uncorrelated, so each direction is a problem of its own, with
two variances, S of what stands still and C of what changes, and an answer in closed form (the Wiener filter;
for Gaussian films the exact denoiser):

    total_f = alpha_f^2 C + sigma_f^2
    still   = S sum_f (alpha_f noisy_f / total_f) / (1 + S sum_f alpha_f^2 / total_f)
    guess_f = mean + still + alpha_f C (noisy_f - alpha_f still) / total_f

Nothing of it has to be learnt: mean, directions and variances are measured. A network that begins here says
what the guess lacks, in units of the deviation that this has along each direction (`Conditioned`), as a
network of latents sees them at variance 1; EDM's preconditioning (2206.00364) is the same of single pixels.
"""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from mutoscope.diffusion.schedule import Level, precise
from mutoscope.video import Refusal

__all__ = ["PARTS", "Guess", "Linear"]

Film = Float[Tensor, "b c f h w"]
PARTS = ("mean", "directions", "still", "change")
"""What is measured, by its names in `Linear`."""
LEAST = 1e-6
"""Variance that counts as none."""


@dataclass(frozen=True, eq=False)
class Guess:
    """A first guess of films; what is new in every noisy frame beside what stands still, of deviation 1 along
    each direction; and the deviation of what the guess lacks along each."""

    film: Film
    new: Film
    lacks: Float[Tensor, "b f d"]


@dataclass(frozen=True, eq=False)
class Linear:
    """Of films whose patches have `patch` pixels a side, and d = c * patch^2 numbers.

    mean: of patches. directions: columns of length 1, at right angles. still, change: variances along them.
    """

    patch: int
    mean: Float[Tensor, " d"]
    directions: Float[Tensor, "d d"]
    still: Float[Tensor, " d"]
    change: Float[Tensor, " d"]

    @classmethod
    def fitted(cls, films: Float[Tensor, "n c f h w"], *, patch: int) -> "Linear":
        """What these films have; of pictures (f = 1) nothing stands still. Refusal where they are no whole
        patches."""
        if films.shape[3] % patch or films.shape[4] % patch:
            height, width = films.shape[3:]
            raise Refusal(f"films of {width}x{height} are no whole patches of {patch}x{patch} pixels")
        rows = rearrange(_rows(films.double(), patch), "n f p d -> (n p) f d")
        mean = rows.mean(dim=(0, 1))
        centred = rows - mean
        directions = torch.linalg.eigh(torch.einsum("n f d, n f e -> d e", centred, centred)).eigenvectors
        turned, frames = centred @ directions, rows.shape[1]
        own = turned.square().mean(dim=(0, 1))
        # The mean product of two frames is that of all pairs, less those of a frame with itself.
        pairs = frames * turned.mean(dim=1).square().mean(dim=0) - own
        still = (pairs / max(frames - 1, 1)).clamp(min=0)
        change = (own - still).clamp(min=LEAST)
        return cls(patch, *(x.float() for x in (mean, directions, still, change)))

    def to(self, device: torch.device | str) -> "Linear":
        """The same on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in PARTS})

    def guess(self, noisy: Film, level: Level, *, images: Bool[Tensor, "b f"] | None = None) -> Guess:
        """Of films in which these frames are pictures of their own (None: none are); float32 or better."""
        film = precise(noisy)
        at, mean = self._at(level, images, like=film), self.mean.to(film)
        seen = self._turned(film - self._laid(at.alpha * mean, film))
        heard = torch.einsum("b f g, b g p d -> b f p d", at.sees, seen * (at.alpha / at.total).unsqueeze(2))
        stands = heard * at.sure.unsqueeze(2)
        rest = seen - at.alpha.unsqueeze(2) * stands
        moves = rest * (at.alpha * at.change / at.total).unsqueeze(2)
        guess = self._laid(mean.expand_as(at.lacks), film) + self._back(stands + moves, film)
        return Guess(guess, self._back(rest / at.news.unsqueeze(2), film), at.lacks)

    def lacks(self, level: Level, *, images: Bool[Tensor, "b f"] | None = None) -> Float[Tensor, "b f d"]:
        """The deviation of what a guess lacks, whatever the film."""
        return self._at(level, images, like=self.mean).lacks

    def _at(self, level: Level, images: Bool[Tensor, "b f"] | None, *, like: Tensor) -> "_At":
        alpha, sigma = (rearrange(x.to(like), "b f -> b f 1") for x in (level.alpha, level.sigma))
        still, change, sees = self.still.to(like), self.change.to(like), _together(images, alpha)
        total = alpha**2 * change + sigma**2
        own = alpha**2 / total
        told = torch.einsum("b f g, b g d -> b f d", sees, own)
        sure = still / (1 + still * told)
        lacks = change * sigma**2 / total + (sigma**2 / total) ** 2 * sure
        # total - alpha^2 sure, which rounding would leave nothing of where all but nothing changes.
        news = (total * (1 + still * (told - own).clamp(min=0)) / (1 + still * told)).sqrt()
        return _At(alpha, change, sees, total, sure, news, lacks.sqrt())

    def completed(self, guess: Guess, said: Film) -> Film:
        """The guess, and what it lacks as a network says it: of deviation 1 in every direction."""
        turned = self._turned(precise(said)) * guess.lacks.unsqueeze(2)
        return guess.film + self._back(turned, guess.film)

    def _turned(self, film: Film) -> Float[Tensor, "b f p d"]:
        return _rows(film, self.patch) @ self.directions.to(film)

    def _back(self, turned: Float[Tensor, "b f p d"], like: Film) -> Film:
        return self._film(turned @ self.directions.to(turned).T, like)

    def _film(self, rows: Float[Tensor, "b f p d"], like: Film) -> Film:
        p, high = self.patch, like.shape[3] // self.patch
        return rearrange(rows, "b f (h w) (c p q) -> b c f (h p) (w q)", p=p, q=p, h=high)

    def _laid(self, values: Float[Tensor, "b f d"], like: Film) -> Film:
        """One patch of every frame, wherever there is one."""
        places = like.shape[3] * like.shape[4] // self.patch**2
        return self._film(values.unsqueeze(2).expand(-1, -1, places, -1), like)


def _rows(film: Film, p: int) -> Float[Tensor, "b f p d"]:
    return rearrange(film, "b c f (h p) (w q) -> b f (h w) (c p q)", p=p, q=p)


def _together(images: Bool[Tensor, "b f"] | None, like: Float[Tensor, "b f 1"]) -> Float[Tensor, "b f f"]:
    """1 where two frames are of one film."""
    batch, frames, _ = like.shape
    if images is None:
        return like.new_ones(batch, frames, frames)
    clip = ~images.to(like.device)
    both = clip.unsqueeze(1) & clip.unsqueeze(2)
    return (both | torch.eye(frames, dtype=torch.bool, device=like.device)).to(like)


@dataclass(frozen=True, eq=False)
class _At:
    """At a level: what frames have to themselves, which of them are of one film, `total`, the variance that
    what stands still has once they are seen, and deviations: of noisy frames without it, and of what a guess
    lacks."""

    alpha: Float[Tensor, "b f 1"]
    change: Float[Tensor, " d"]
    sees: Float[Tensor, "b f f"]
    total: Float[Tensor, "b f d"]
    sure: Float[Tensor, "b f d"]
    news: Float[Tensor, "b f d"]
    lacks: Float[Tensor, "b f d"]


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import denoisers, draw

    draw(denoisers.linear)
