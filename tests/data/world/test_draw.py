"""A clip shows what its scene says, the same at any rate and in any company."""

import pytest
import torch
from torch import Tensor

from mutoscope.data.world import FULL, Drawn, Scene, draw
from mutoscope.data.world.vocabulary import QUADRUPEDS, with_words

SIZE = (48, 32)
MAN = Scene(
    "man", "walking", "red", "street", "clear", "day", "flat illustration", "left", "following", 5
)


def film(scene: Scene = MAN, *, frames: int = 3, size: tuple[int, int] = SIZE, **words: str) -> Drawn:
    return draw([with_words(scene, **words)], frames=frames, size=size)


def best_shift(before: Tensor, after: Tensor, *, axis: int, reach: int) -> int:
    """By how many pixels `before` ("h w") must be rolled along an axis to look most like `after`."""
    errors = {k: float((before.roll(k, axis) - after).square().mean()) for k in range(-reach, reach + 1)}
    return min(errors, key=errors.__getitem__)


def test_a_clip_does_not_depend_on_its_batch():
    scenes = FULL.scenes(0, 0, 5)
    together = draw(scenes, frames=3, size=SIZE)
    assert together.scenes == scenes
    for k, scene in enumerate(scenes):
        alone = draw([scene], frames=3, size=SIZE)
        assert torch.equal(alone.video[0], together.video[k])
        assert torch.equal(alone.figure[0], together.figure[k])


def test_drawing_twice_gives_the_same_and_leaves_the_global_generators_alone():
    before = torch.get_rng_state()
    first, second = film(weather="snow"), film(weather="snow")
    assert torch.equal(first.video, second.video)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("weather", ["clear", "rain", "snow"])
def test_the_same_moment_is_the_same_picture_at_any_rate(weather: str):
    """Both clips last two seconds; frame 12 at 24 a second is frame 6 at 12."""
    scene = with_words(MAN, weather=weather)
    slow = draw([scene], frames=25, size=SIZE, fps=12.0)
    fast = draw([scene], frames=49, size=SIZE, fps=24.0)
    assert torch.allclose(fast.video[:, :, 12], slow.video[:, :, 6], atol=1e-4)
    assert torch.allclose(fast.figure[:, 12], slow.figure[:, 6], atol=1e-4)
    assert not torch.allclose(fast.video[:, :, 12], slow.video[:, :, 12], atol=1e-2)


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("size", [(48, 32), (32, 48), (40, 24)])
def test_sizes_and_lengths(frames: int, size: tuple[int, int]):
    drawn = draw(FULL.scenes(1, 0, 2), frames=frames, size=size)
    assert drawn.video.shape == (2, 3, frames, size[1], size[0])
    assert drawn.figure.shape == (2, frames, size[1], size[0])
    assert drawn.video.dtype == drawn.figure.dtype == torch.float32
    assert drawn.video.is_contiguous()


def test_a_larger_picture_shows_the_same():
    small, large = film(frames=1), film(frames=1, size=(96, 64))
    halved = torch.nn.functional.avg_pool3d(large.video, (1, 2, 2))
    assert float((halved - small.video).abs().mean()) < 0.12
    assert abs(float(large.figure.mean() - small.figure.mean())) < 0.02


ALL_WORDS = [(name, word) for name, words in FULL.words().items() for word in words]


@pytest.mark.parametrize(("name", "word"), ALL_WORDS, ids=[f"{n}-{w}" for n, w in ALL_WORDS])
def test_every_word_can_be_drawn(name: str, word: str):
    changes = {name: word} | ({"action": "walking"} if word in QUADRUPEDS else {})
    drawn = film(with_words(MAN, **changes), frames=2, size=(32, 24))
    assert drawn.video.isfinite().all()
    assert drawn.video.min() >= -1 and drawn.video.max() <= 1
    assert drawn.figure.min() >= 0 and drawn.figure.max() <= 1
    assert drawn.figure.amax() > 0.9 and 0.005 < drawn.figure.mean() < 0.6


@pytest.mark.parametrize(
    "name", ["subject", "action", "colour", "place", "weather", "light", "style", "direction"]
)
def test_words_of_one_kind_look_different(name: str):
    """At the same seed, changing a word changes the picture."""
    clips = [film(frames=2, **{name: word}).video for word in FULL.words()[name][:4]]
    for k, clip in enumerate(clips):
        for other in clips[:k]:
            assert float((clip - other).abs().mean()) > 0.003


def test_cameras_differ_in_what_they_do_to_the_background():
    clips = [film(frames=6, camera=camera).video for camera in FULL.camera]
    for k, clip in enumerate(clips):
        assert all(float((clip - other).abs().mean()) > 0.003 for other in clips[:k])


@pytest.mark.parametrize("style", ["flat illustration", "paper cut-out"])
@pytest.mark.parametrize("place", FULL.place)
def test_night_is_darker_than_day(style: str, place: str):
    day, night = (film(frames=1, style=style, place=place, light=light) for light in ("day", "night"))
    assert float(night.video.mean()) < float(day.video.mean()) - 0.3


def inside(drawn: Drawn) -> Tensor:
    """The pixels that the figure covers whole, "n 3" in [0, 1]."""
    return drawn.video[0].permute(1, 2, 3, 0)[drawn.figure[0] > 0.95] / 2 + 0.5


@pytest.mark.parametrize(
    ("colour", "channel", "least"), [("red", 0, (1, 2)), ("green", 1, (0, 2)), ("blue", 2, (0, 1))]
)
def test_the_coat_has_its_colour(colour: str, channel: int, least: tuple[int, int]):
    pixels = inside(film(colour=colour, size=(96, 64)))
    lead = pixels[:, channel] - torch.maximum(pixels[:, least[0]], pixels[:, least[1]])
    assert float((lead > 0.2).float().mean()) > 0.25
    for other in {"red", "green", "blue"} - {colour}:
        theirs = inside(film(colour=other, size=(96, 64)))
        their_lead = theirs[:, channel] - torch.maximum(theirs[:, least[0]], theirs[:, least[1]])
        assert float((lead > 0.2).float().mean()) > 2 * float((their_lead > 0.2).float().mean())


@pytest.mark.parametrize("action", ["walking", "waving"])
def test_a_still_camera_leaves_the_background_where_it_is(action: str):
    """Away from the figure: neither body, nor shadow at its feet, nor what it has uncovered."""
    drawn = film(frames=6, camera="still", action=action, size=(96, 64))
    touched = drawn.figure[0].amax(0) > 0
    columns = torch.nn.functional.max_pool1d(touched.any(0)[None, None].float(), 13, 1, 6)[0, 0] > 0
    background = drawn.video[0][..., ~columns]
    assert (~columns).sum() > 20
    assert float((background - background[:, :1]).abs().max()) < 1e-5
    assert float(drawn.figure[0].diff(dim=0).abs().amax()) > 0.5  # while the figure moves


def test_someone_who_walks_moves_their_own_way():
    for direction, sign in (("left", -1), ("right", 1)):
        drawn = film(frames=9, camera="still", direction=direction, size=(96, 64))
        places = torch.arange(96.0)
        middle = (drawn.figure[0] * places).sum((1, 2)) / drawn.figure[0].sum((1, 2))
        assert sign * float(middle[-1] - middle[0]) > 2


@pytest.mark.parametrize("seed", [5, 6, 7])
@pytest.mark.parametrize("weather", ["rain", "snow"])
def test_rain_and_snow_fall(weather: str, seed: int):
    """What the weather adds to the sky moves down from one frame to the next; snow more slowly."""
    scene = Scene(
        **with_words(MAN, action="standing still", camera="still", weather=weather).words(), seed=seed
    )
    clip = draw([scene], frames=17, size=(96, 64), fps=48.0).video[0].mean(0)
    step = {"rain": 4, "snow": 8}[weather]
    falling = clip - clip.median(0, keepdim=True).values  # the background stands still
    # one shift for the whole clip: each frame against the one a step later
    errors = {
        k: float((falling[:-step].roll(k, 1) - falling[step:])[:, 12:-12].square().mean())
        for k in range(-12, 13)
    }
    assert 0 < min(errors, key=errors.__getitem__) <= 12


def test_weather_shows_and_clear_weather_is_quiet():
    still = {"action": "standing still", "camera": "still"}
    change = {
        w: float(film(weather=w, **still).video.diff(dim=2).abs().mean())
        for w in ("clear", "rain", "snow")
    }
    assert change["rain"] > 3 * change["clear"] and change["snow"] > 3 * change["clear"]


@pytest.mark.parametrize("place", ["street", "park"])
def test_the_camera_that_follows_scrolls_the_world_the_other_way(place: str):
    """Whoever goes left stays in the middle while the ground comes from the left, and the other way about."""
    shifts = {}
    for direction in FULL.direction:
        drawn = film(frames=2, direction=direction, place=place, size=(96, 64))
        masked = [drawn.video[0, :, f].mean(0) * (drawn.figure[0].amax(0) < 0.01) for f in (0, 1)]
        ground = [picture[24:] - picture[24:].mean(1, keepdim=True) for picture in masked]
        shifts[direction] = best_shift(ground[0], ground[1], axis=1, reach=8)
    assert shifts["left"] > 0 > shifts["right"]


def test_the_figure_stays_within_the_picture_where_the_camera_follows():
    drawn = film(frames=25, action="running", size=(96, 64))
    assert float(drawn.figure.sum((2, 3)).min()) > 0.5 * float(drawn.figure.sum((2, 3)).max())
    assert float(drawn.figure[..., :4].max()) == float(drawn.figure[..., -4:].max()) == 0


def test_zooming_in_makes_the_figure_grow():
    drawn = film(frames=25, action="standing still", camera="zooming in")
    assert float(drawn.figure[0, -1].sum()) > 1.2 * float(drawn.figure[0, 0].sum())
