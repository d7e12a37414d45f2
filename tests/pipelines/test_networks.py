"""Films of a U-Net on pixels: made by the same pipeline, and going on by the same tasks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mutoscope.checkpoints.unet_folder import UNetModel, save_unet_model
from mutoscope.diffusion.colours import rgb
from mutoscope.diffusion.denoiser import GaussianDenoiser
from mutoscope.diffusion.plan import full_sequence
from mutoscope.diffusion.prior import Fresh
from mutoscope.diffusion.process import Process
from mutoscope.diffusion.sampler import sample
from mutoscope.diffusion.stochastic import Ancestral
from mutoscope.pipelines import Pipeline, load
from mutoscope.pipelines.cascade import Sharpened
from mutoscope.pipelines.held import Held
from mutoscope.pipelines.output import film
from mutoscope.pipelines.tasks import Extend, Interpolate, Task
from mutoscope.video import Refusal, Video
from tiny import tiny_unet_model

WORDS = "a man walking in the rain"


def pipeline_of(*, known: bool = False, words: bool = True) -> Pipeline:
    return Pipeline(tiny_unet_model(known=known, words=words), precision="float32", device="cpu")


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return pipeline_of()


def test_a_film_is_what_was_asked_for(pipeline: Pipeline):
    video = pipeline.generate(WORDS)
    assert (len(video), video.size, video.fps) == (8, (16, 16), 12)
    assert video.frames.float().std() > 5 and video.notes["prompt"] == WORDS


@pytest.mark.parametrize(
    "settings",
    [{"seed": 1}, {"steps": 2}, {"guidance": 6.0}, {"sampler": "multistep"}, {"sampler": "ancestral"}],
    ids=str,
)
def test_every_setting_changes_the_film(pipeline: Pipeline, settings: dict):
    usual = {"steps": 4, "frames": 2}
    again, changed = pipeline.generate(WORDS, **usual), pipeline.generate(WORDS, **usual | settings)
    assert torch.equal(pipeline.generate(WORDS, **usual).frames, again.frames)
    assert not torch.equal(again.frames, changed.frames)


def test_the_words_change_the_film_unless_none_are_read(pipeline: Pipeline):
    for model, reads in ((pipeline, True), (pipeline_of(words=False), False)):
        films = (model.generate(words, frames=2, steps=2) for words in (WORDS, "a child at night"))
        one, other = (video.frames for video in films)
        assert torch.equal(one, other) != reads
        assert any("reads no words" in said for said in model.remarks(model.request(WORDS))) != reads


@pytest.mark.parametrize(("frames", "size"), [(1, (8, 8)), (3, (17, 9)), (11, (16, 24))])
def test_any_length_and_size_is_made_and_cut_back(pipeline: Pipeline, frames: int, size: tuple[int, int]):
    video = pipeline.generate(WORDS, frames=frames, size=size, steps=1)
    assert (len(video), video.size) == (frames, size)


def test_pictures_are_their_own_latents(pipeline: Pipeline):
    pictures = torch.randint(0, 256, (3, 9, 13, 3), dtype=torch.uint8)
    latents = pipeline.encode(pictures)
    request = pipeline.request(WORDS, frames=3, size=(13, 9))
    assert latents.shape == (3, 3, 10, 14)
    assert torch.equal(torch.cat(list(pipeline.decode(latents, request))), pictures)


def test_plans_that_need_a_time_for_every_frame_are_refused(pipeline: Pipeline):
    with pytest.raises(Refusal, match="one time for all frames; take plan full"):
        pipeline.generate(WORDS, plan="pyramid")


def test_a_folder_makes_the_film_of_the_model_and_its_file_can_be_made_again(tmp_path: Path):
    folder = save_unet_model(tiny_unet_model(), tmp_path / "model", dtype=None)
    model = load(folder, precision="float32", device="cpu")
    assert model.weights.startswith("sha256:")
    assert torch.equal(model.generate(WORDS, steps=2).frames, pipeline_of().generate(WORDS, steps=2).frames)
    list(film(model, model.request(WORDS, frames=2, steps=1), output=tmp_path / "film.mp4"))
    assert (tmp_path / "film.mp4").exists()


def made(task: Task, pipeline: Pipeline, video: Video) -> torch.Tensor:
    shape = task.shape([video])
    request = pipeline.request(WORDS, steps=3, **{"guidance": 1.0} | shape)
    parts = [part.pictures for part in task.parts(pipeline, [video], request) if part.pictures is not None]
    return torch.cat(parts)


@pytest.mark.parametrize("known", [True, False], ids=["told what is known", "reconstruction guidance"])
def test_films_go_on_to_four_times_their_length_and_depend_on_what_was_there(known: bool):
    pipeline = pipeline_of(known=known)
    one, other = (pipeline.generate(WORDS, seed=seed, steps=2) for seed in (1, 2))
    task = Extend(frames=24, context=4)
    first, second = made(task, pipeline, one), made(task, pipeline, other)
    assert len(first) == 32 and torch.equal(first[:8], one.frames)
    assert (first[8:].int() - second[8:].int()).abs().float().mean() > 0.5


def test_frames_come_between_those_of_a_film(pipeline: Pipeline):
    video = Video(torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8), 6.0)
    film = made(Interpolate(factor=4), pipeline, video)
    assert len(film) == 9 and torch.equal(film[::4], video.frames)


def gaussian(rho: float = 0.95, frames: int = 8) -> GaussianDenoiser:
    place = torch.arange(frames, dtype=torch.float64)
    covariance = rho ** (place[:, None] - place).abs()
    return GaussianDenoiser(torch.zeros(frames, dtype=torch.float64), covariance, Process().noising())


def held(weight: float) -> torch.Tensor:
    """Films of which the first four frames are known to be 2, "b f"; made from 96 noises."""
    fresh = Fresh(range(96), (1, 8, 1, 1), dtype=torch.float64)
    noise = fresh(0, "start")
    noise[:, :, :4] = 2.0
    plan = full_sequence(24, 8).knowing(range(4))
    denoiser = Held(gaussian(), fresh, weight)
    *_, last = sample(denoiser, noise, plan=plan, sampler=Ancestral(corrector=0.1), fresh=fresh)
    return last.clean[:, 0, :, 0, 0]


def test_held_frames_stay_and_reconstruction_brings_the_next_one_nearer_than_replacement():
    """On exact AR(1) films: the mean after the seam is 2 * 0.95 in truth."""
    truth, found = 2 * 0.95, {weight: held(weight) for weight in (0.0, 3.0)}
    for made in found.values():
        torch.testing.assert_close(made[:, :4], torch.full_like(made[:, :4], 2.0), rtol=0, atol=1e-9)
    errors = {weight: float((made[:, 4].mean() - truth).abs()) for weight, made in found.items()}
    assert errors[3.0] < 0.5 * errors[0.0]


def test_nothing_held_or_all_held_is_the_denoiser_itself():
    denoiser = Held(gaussian(), lambda step, purpose: torch.zeros(()), 3.0)
    noisy = torch.randn(2, 1, 8, 1, 1, dtype=torch.float64)
    for time in (0.7, 0.0):
        t = torch.full((2, 8), time, dtype=torch.float64)
        assert torch.equal(denoiser(noisy, t, None), gaussian()(noisy, t, None))


def test_the_vdm_process_of_the_model_is_the_pipelines(pipeline: Pipeline):
    denoiser = pipeline.denoiser(pipeline.request(WORDS, guidance=1.0))
    assert denoiser.schedule == Process().noising()


def test_a_model_may_have_a_shift_of_its_own(pipeline: Pipeline):
    model = tiny_unet_model()
    shifted = replace(model, facts=model.facts.model_copy(update={"shift": 4.0}))
    own = Pipeline(shifted, precision="float32", device="cpu")
    asked, told = own.request(WORDS, steps=4), pipeline.request(WORDS, steps=4, shift=4.0)
    assert torch.equal(own.grid(asked), pipeline.grid(told))
    assert not torch.equal(own.grid(asked), pipeline.grid(pipeline.request(WORDS, steps=4)))
    same = pipeline.generate(WORDS, steps=2, shift=4.0)
    assert torch.equal(own.generate(WORDS, steps=2).frames, same.frames)


def of_process(process: Process, *, seed: int = 0) -> UNetModel:
    model = tiny_unet_model(seed)
    return replace(model, facts=model.facts.model_copy(update={"process": process}))


def test_a_weak_model_says_what_it_says_in_its_own_process():
    weak = of_process(Process(prediction="clean", deviation=0.3), seed=1)
    both = Pipeline(tiny_unet_model(), precision="float32", device="cpu", weak=weak)
    alone = Pipeline(weak, precision="float32", device="cpu")
    noisy, t = torch.randn(1, 3, 4, 8, 8), torch.full((1, 4), 0.4)
    network, words = alone._networks.flow(together=False), alone._networks.remember([WORDS])
    said = weak.facts.process.denoiser(network)(noisy, t, words)
    assert both._weak is not None
    assert torch.equal(both._weak.denoiser([WORDS])(noisy, t, None), said)


def test_a_weak_model_of_another_schedule_is_refused():
    with pytest.raises(Refusal, match="rgb on the schedule straight, this one of rgb on cosine"):
        Pipeline(tiny_unet_model(), device="cpu", weak=of_process(Process(schedule="straight")))
    with pytest.raises(Refusal, match="of opponent on the schedule cosine, this one of rgb"):
        Pipeline(tiny_unet_model(), device="cpu", weak=of_process(Process(colours="opponent")))


class TestOpponentColours:
    """The network's films are of opponent colours, everybody else's of RGB."""

    model = Pipeline(of_process(Process(colours="opponent")), precision="float32", device="cpu")

    def test_pictures_come_back(self):
        pictures = torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8)
        latents = self.model.encode(pictures)
        assert (latents - pipeline_of().encode(pictures)).abs().max() > 1
        request = self.model.request(WORDS, frames=3)
        assert torch.equal(torch.cat(list(self.model.decode(latents, request))), pictures)

    def test_a_film_is_decoded(self):
        """Of one network that says nothing of words or frames: the same noise, in other colours."""
        silent = of_process(Process(colours="opponent"))
        torch.nn.init.zeros_(silent.unet.last.weight)
        torch.nn.init.zeros_(silent.unet.last.bias)
        plain = replace(silent, facts=silent.facts.model_copy(update={"process": Process()}))
        made = [Pipeline(model, precision="float32", device="cpu") for model in (silent, plain)]
        asked = {"steps": 2, "guidance": 1.0, "sampler": "euler"}
        coloured, noise = (
            list(one.steps(one.request(WORDS, **asked)))[-1].latents for one in made
        )
        assert torch.equal(coloured, noise)
        film = made[0].generate(WORDS, **asked).tensor()
        torch.testing.assert_close(film, rgb(noise[0]).clamp(-1, 1), rtol=0, atol=1 / 127)

    def test_known_frames_stay(self):
        video = Video(torch.randint(0, 256, (3, 16, 16, 3), dtype=torch.uint8), 6.0)
        assert torch.equal(made(Interpolate(factor=4), self.model, video)[::4], video.frames)

    def test_a_small_film_leads_to_its_own_colours(self):
        redder = []
        for colour in ((200, 40, 40), (40, 40, 200)):
            flat = Video(torch.tensor(colour, dtype=torch.uint8).expand(2, 8, 8, 3), 6.0)
            film = made(Sharpened(size=(16, 16)), self.model, flat).float().mean(dim=(0, 1, 2))
            redder.append(float(film[0] - film[2]))
        assert redder[0] > 50 and redder[1] < -50
