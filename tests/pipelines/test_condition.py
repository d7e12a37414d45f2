"""What is known stays, to the bit; what is nearly right is begun from; and a guess is moved to agree."""

import pytest
import torch

from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.noise import draw
from mutoscope.diffusion.plan import autoregressive, full_sequence, keyframes
from mutoscope.diffusion.sampler import Euler, sample
from mutoscope.pipelines import Pipeline
from mutoscope.pipelines.condition import Agreeing, Given, take
from mutoscope.video import Refusal
from tiny import tiny_model

SHAPE = (2, 5, 3, 4)
EXACT = GaussianDenoiser(torch.zeros(5), 0.7 * torch.ones(5, 5) + 0.3 * torch.eye(5))
NOISE, FILM = draw([1, 2], SHAPE), draw([3, 4], SHAPE)


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(tiny_model(), precision="float32", device="cpu")


def sampled(given: Given, *, plan=None):
    plan = given.plan(plan or full_sequence(8, 5))
    start = given.start(NOISE, plan=plan, schedule=EXACT.schedule)
    *_, last = sample(EXACT, start, plan=plan, sampler=Euler())
    return last.clean


@pytest.mark.parametrize("places", [[0], [0, 1], [0, -1], [2, 4], [-2]])
@pytest.mark.parametrize("plan", [full_sequence, autoregressive, keyframes])
def test_known_frames_come_back_bit_for_bit(places, plan):
    given = Given(places=places, frames=FILM[:, :, places])
    made = sampled(given, plan=plan(4, 5))
    assert torch.equal(made[:, :, places], FILM[:, :, places])


def test_what_is_known_reaches_the_rest():
    """Frames are alike by 0.7: those beside a known one lie nearer to it than without."""
    free = sampled(Given())
    led = sampled(Given(places=[2], frames=5 + 0 * FILM[:, :, [2]]))
    assert (led - free)[:, :, [0, 1, 3, 4]].mean() > 1.5


def test_nothing_given_is_ordinary_sampling():
    *_, last = sample(EXACT, NOISE, plan=full_sequence(8, 5))
    assert torch.equal(sampled(Given()), last.clean)


def test_a_rough_film_at_full_strength_is_forgotten():
    assert torch.equal(sampled(Given(rough=FILM)), sampled(Given()))


def test_less_strength_stays_nearer_to_the_rough_film():
    far = [(sampled(Given(rough=FILM, strength=s)) - FILM).square().mean().item() for s in (0.1, 0.4, 0.8)]
    assert far == sorted(far) and far[0] < 0.1 * far[2]


def test_the_plan_begins_at_the_strength_and_leaves_out_what_rests():
    plan = Given(rough=FILM, strength=0.5).plan(full_sequence(8, 5))
    assert plan.times[0].tolist() == [0.5] * 5 and plan.steps == 4
    both = Given(places=[0], frames=FILM[:, :, :1], rough=FILM, strength=0.3).plan(full_sequence(8, 5))
    assert both.times[0].tolist() == [0, 0.3, 0.3, 0.3, 0.3] and both.steps == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strength": 0.5}, "no rough film"),
        ({"rough": FILM, "strength": 0.0}, "strength is 0.0"),
        ({"rough": FILM, "strength": 1.5}, "strength is 1.5"),
        ({"places": [0, 1], "frames": FILM[:, :, :1]}, "2 places"),
        ({"places": [0]}, "1 places"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, words):
    with pytest.raises(Refusal, match=words):
        Given(**settings)


def test_agreeing_moves_the_guess_by_what_its_pictures_lack():
    """Latents that are their pictures, in whole levels: the guess then agrees exactly."""

    def encode(pictures):
        return pictures.permute(3, 0, 1, 2)[:2].double()

    def decode(latents):
        third = torch.zeros_like(latents[:1])
        return torch.cat([latents, third]).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0)

    def agree(pictures):
        pictures = pictures.clone()
        pictures[::2] = 200
        return pictures

    film = 100 + 20 * draw([5], SHAPE, dtype=torch.float64)
    denoiser = GaussianDenoiser(torch.zeros(5), torch.eye(5))  # at t = 0 it says what it sees
    said = Agreeing(denoiser, encode, decode, agree)(film, torch.zeros(1, 5), None)
    assert ((said[:, :, ::2] - 200).abs() <= 0.5).all()  # the rounding of pictures
    assert torch.equal(said[:, :, 1::2], film[:, :, 1::2])


def test_a_take_depends_on_seed_and_number(pipeline: Pipeline):
    def film(seed: int, number: int) -> torch.Tensor:
        request = pipeline.request("a man", seed=seed, steps=1, guidance=1.0)
        *_, last = take(pipeline, request, Given(), frames=5, number=number)
        return last.clean

    assert torch.equal(film(0, 0), film(0, 0))
    assert not torch.equal(film(0, 0), film(0, 1)) and not torch.equal(film(0, 0), film(1, 0))


def test_a_pipeline_encodes_to_what_it_decodes(pipeline: Pipeline):
    """Any size: latents of whole patches, as many as the request's."""
    request = pipeline.request("a man", frames=6, size=(33, 18))
    pictures = torch.randint(256, (6, 18, 33, 3), dtype=torch.uint8)
    latents = pipeline.encode(pictures)
    assert tuple(latents.shape) == pipeline.latent_shape(request)
    assert torch.cat(list(pipeline.decode(latents, request))).shape == pictures.shape
