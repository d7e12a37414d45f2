"""From a small noisy film to one of twice the height and width (Pyramidal Flow Matching, 2410.05954).

A stage of this pyramid (`plan.pyramid` is another, over time) is a straight flow at one size. Where it ends,
at time t, the film is made larger by repeating pixels, so that its noise is alike in each block of 2 x 2;
noise that sums to 0 over each block makes it white again:

    noisy' = (up(noisy) + sqrt(3) t * block_noise) / (1 + t)        at time 2 t / (1 + t) = shift(t, 2)
"""

import math
from dataclasses import dataclass

from einops import reduce, repeat
from jaxtyping import Float
from torch import Tensor

from mutoscope.diffusion.schedule import precise, spread
from mutoscope.video import Refusal

Film = Float[Tensor, "b c f h w"]
Large = Float[Tensor, "b c f 2*h 2*w"]
Row = Float[Tensor, "#b f"]


def up(film: Film) -> Large:
    """Twice the height and width, every pixel four times."""
    return repeat(film, "b c f h w -> b c f (h 2) (w 2)")


def down(film: Film) -> Float[Tensor, "b c f h//2 w//2"]:
    """Half the height and width, the mean of every 2 x 2 pixels. Raises Refusal for odd sides."""
    if film.shape[-2] % 2 or film.shape[-1] % 2:
        raise Refusal(f"films of {film.shape[-2]} x {film.shape[-1]}: both must be even to be halved")
    return reduce(film, "b c f (h 2) (w 2) -> b c f h w", "mean")


def block_noise(white: Film) -> Film:
    """White noise made to sum to 0 over every block of 2 x 2: covariance (4 I - J) / 3 in it, J all ones."""
    return math.sqrt(4 / 3) * (white - up(down(white)))


def jump(noisy: Film, white: Large, *, t: Row) -> Large:
    """From (1 - t) clean + t noise to twice the size, at time shift(t, 2). white: fresh, "b c f 2h 2w"."""
    large, white = up(precise(noisy)), precise(white)
    return (large + spread(math.sqrt(3) * t, large) * block_noise(white)) / spread(1 + t, large)


@dataclass(frozen=True)
class Stage:
    """A straight flow at one size, whose films are blurred where it starts:

        from (1 - start) up(down(clean)) + start * noise    to (1 - end) clean + end * noise

    with one noise. A stage that starts at pure noise may have odd sides.
    """

    start: float
    end: float

    def noisy(self, clean: Film, noise: Film, *, share: Row) -> Film:
        """`share` of the way back from the end of the stage (0) to its start (1), for every frame."""
        end = (1 - self.end) * precise(clean) + self.end * precise(noise)
        return end + spread(share, end) * self.flow(clean, noise)

    def flow(self, clean: Film, noise: Film) -> Film:
        """What a network of the stage is trained to say: d noisy / d share."""
        blurred = up(down(precise(clean))) if self.start < 1 else 0.0
        sharp, noise = (1 - self.end) * precise(clean), (self.start - self.end) * precise(noise)
        return (1 - self.start) * blurred - sharp + noise


def stages(count: int = 3) -> list[Stage]:
    """Smallest first, from pure noise to clean; each ends with as much more signal than the one before."""
    if count < 1:
        raise Refusal(f"{count} stages: there must be at least 1")
    ends = [1 - (number + 1) / count for number in range(count)]
    return list(map(Stage, [1.0, *(2 * end / (1 + end) for end in ends)], ends))


if __name__ == "__main__":
    from mutoscope.diffusion.drawings import draw, frames

    draw(frames.pyramid)
