"""Independent images beside a clip: nothing leaks, in attention, convolutions and statistics (I21-I23)."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mutoscope.models.temporal import (
    FrameConv,
    Frames,
    Merge,
    Scene,
    TimeBlock,
    TimeNorm,
    each_clip,
    each_film,
    frame_rope,
)
from mutoscope.models.unet import UNet, UNetConfig, inflate
from mutoscope.models.unet_attention import Words
from mutoscope.models.unet_config import MODELSCOPE, SVD, Positions, TimeConfig, align, vdm
from tiny import stirred

CONFIG = UNetConfig(
    channels=(8, 16), attention=(False, True), heads=(2, 2), groups=4, layers=1, in_channels=3, out_channels=3
)
TIMES = {
    "vdm": vdm(levels=(True, True)),
    "vdm with convolutions": vdm(positions="rotary", convs=2),
    "vdm by sinusoids": vdm(positions="sinusoid"),
    "align": align(),
    "modelscope": MODELSCOPE,
    "svd": SVD,
}
kinds = pytest.mark.parametrize("time", TIMES.values(), ids=TIMES.keys())
JOINT = torch.tensor([[False, False, False, True, True]])
MIXED = torch.tensor([[False, True, False, False, True]])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(time: TimeConfig | None) -> UNet:
    torch.manual_seed(0)
    net = UNet(CONFIG.model_copy(update={"time": time}))
    stirred(net)
    return net.double().eval()


def times(frames: int) -> Tensor:
    return 999 * torch.rand(1, frames, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def seen(network: nn.Module, frames: int, **conditions: Tensor) -> Tensor:
    """Whether output frame i has a gradient to input frame j, "i j"; exactly zero counts as none."""
    noisy = random(1, 3, frames, 4, 4).requires_grad_()
    out = network(noisy, times(frames), **conditions)
    weights = random(*out.shape, seed=2)
    rows = [
        torch.autograd.grad((out * weights)[:, :, i].sum(), noisy, retain_graph=True)[0]
        .abs()
        .amax((0, 1, 3, 4))
        for i in range(frames)
    ]
    return torch.stack(rows) > 0


class TestImagesBesideAClip:
    @kinds
    @pytest.mark.parametrize("images", [JOINT, MIXED], ids=["images last", "images between"])
    def test_gradients_between_them_are_exactly_zero(self, time: TimeConfig, images: Tensor) -> None:
        clip = ~images[0]
        wanted = torch.outer(clip, clip) | torch.eye(5, dtype=torch.bool)
        assert torch.equal(seen(model(time), 5, images=images), wanted)

    @kinds
    def test_an_image_is_the_image_alone_and_the_clip_the_clip_alone(self, time: TimeConfig) -> None:
        net, noisy, t = model(time), random(1, 3, 5, 4, 4), times(5)
        together = net(noisy, t, images=MIXED)
        clip = net(noisy[:, :, ~MIXED[0]], t[:, ~MIXED[0]])
        torch.testing.assert_close(together[:, :, ~MIXED[0]], clip, rtol=0, atol=1e-11)
        for k in (1, 4):
            here = slice(k, k + 1)
            alone = net(noisy[:, :, here], t[:, here], images=torch.tensor([[True]]))
            torch.testing.assert_close(together[:, :, here], alone, rtol=0, atol=1e-11)

    @kinds
    def test_images_may_change_places_or_go(self, time: TimeConfig) -> None:
        net, noisy, t = model(time), random(1, 3, 5, 4, 4), times(5)
        together = net(noisy, t, images=JOINT)
        order = torch.tensor([0, 4, 1, 2, 3])
        moved = net(noisy[:, :, order], t[:, order], images=JOINT[:, order])
        torch.testing.assert_close(moved, together[:, :, order], rtol=0, atol=1e-11)
        fewer = net(noisy[:, :, :4], t[:, :4], images=JOINT[:, :4])
        torch.testing.assert_close(fewer, together[:, :, :4], rtol=0, atol=1e-11)

    @kinds
    def test_samples_may_have_different_numbers_of_images(self, time: TimeConfig) -> None:
        net, noisy, t = model(time), random(3, 3, 5, 4, 4), times(5).expand(3, -1)
        images = torch.tensor([[False] * 5, [True] * 5, MIXED[0].tolist()])
        together = net(noisy, t, images=images)
        for row in range(3):
            here = slice(row, row + 1)
            alone = net(noisy[here], t[here], images=images[here])
            torch.testing.assert_close(together[here], alone, rtol=0, atol=1e-11)
        torch.testing.assert_close(together[:1], net(noisy[:1], t[:1]), rtol=0, atol=1e-11)

    @pytest.mark.parametrize("time", [vdm(levels=(True, True)), vdm(convs=2), MODELSCOPE])
    def test_where_layers_add_an_image_is_a_film_of_one_frame(self, time: TimeConfig) -> None:
        net, image, t = model(time), random(1, 3, 1, 4, 4), times(1)
        flagged = net(image, t, images=torch.tensor([[True]]))
        torch.testing.assert_close(flagged, net(image, t), rtol=0, atol=1e-11)


class Leaky(nn.Module):
    """The two leaks of public joint training, small: attention over frames at the entry is given no mask, and
    a group norm takes its statistics over all frames. The attention between is masked as it should be."""

    def __init__(self, *, entry: bool, norm: bool) -> None:
        super().__init__()
        self.lift = nn.Conv3d(3, 8, 1)
        self.entry = nn.MultiheadAttention(8, 2, batch_first=True) if entry else None
        self.norm = nn.GroupNorm(4, 8) if norm else nn.Identity()
        self.masked = nn.MultiheadAttention(8, 2, batch_first=True)
        self.double()

    def _over_frames(self, x: Tensor, attention: nn.MultiheadAttention, mask: Tensor | None) -> Tensor:
        rows = x.movedim(2, 4).movedim(1, 4).transpose(3, 4).flatten(0, 2).transpose(1, 2)
        out = attention(rows, rows, rows, attn_mask=mask, need_weights=False)[0]
        b, c, f, h, w = x.shape
        return x + out.view(b, h, w, f, c).movedim(4, 1).movedim(4, 2)

    def forward(self, noisy: Tensor, t: Tensor, *, images: Tensor) -> Tensor:
        x = self.lift(noisy)
        if self.entry is not None:
            x = self._over_frames(x, self.entry, None)
        both = images[0, :, None] | images[0, None, :]
        return self._over_frames(self.norm(x), self.masked, both & ~torch.eye(5, dtype=torch.bool))


@pytest.mark.parametrize(("entry", "norm"), [(True, False), (False, True), (False, False)])
def test_the_public_way_leaks_at_the_entry_and_through_the_norm(entry: bool, norm: bool) -> None:
    """The control: with neither, the same stand-in is clean, so these two are what leaks."""
    torch.manual_seed(0)
    clip = ~JOINT[0]
    clean = torch.outer(clip, clip) | torch.eye(5, dtype=torch.bool)
    leaks = (seen(Leaky(entry=entry, norm=norm), 5, images=JOINT) & ~clean).any()
    assert bool(leaks) == (entry or norm)
    assert torch.equal(seen(model(vdm(convs=2)), 5, images=JOINT), clean)


ALPHA = {"align": align(), "align, attention only": align(convs=0, positions="relative"), "svd": SVD}
alphas = pytest.mark.parametrize("time", ALPHA.values(), ids=ALPHA.keys())


class TestAlpha:
    @alphas
    def test_images_are_the_image_model_bit_for_bit(self, time: TimeConfig) -> None:
        image = model(None)
        film = inflate(image, image.config.with_time(time)).double().eval()
        with torch.no_grad():
            for weight in film.temporal_parameters():
                weight.add_(random(*weight.shape, seed=5))
        noisy, t = random(2, 3, 4, 4, 4), times(4).expand(2, -1)
        flags = torch.ones(2, 4, dtype=torch.bool)
        assert torch.equal(film(noisy, t, images=flags), image(noisy, t))
        assert not torch.allclose(film(noisy, t), image(noisy, t), atol=1e-3)

    @alphas
    def test_alpha_of_one_is_the_image_model_bit_for_bit(self, time: TimeConfig) -> None:
        film, noisy, t = model(time), random(2, 3, 4, 4, 4), times(4).expand(2, -1)
        image = model(None)
        image.load_state_dict({n: w for n, w in film.state_dict().items() if n in image.state_dict()})
        with torch.no_grad():
            for module in film.modules():
                if isinstance(module, Merge):
                    module.mix.fill_(torch.inf)
        assert torch.equal(film(noisy, t), image(noisy, t))

    @alphas
    def test_images_give_the_temporal_layers_no_gradient(self, time: TimeConfig) -> None:
        film, noisy, t = model(time), random(2, 3, 4, 4, 4), times(4).expand(2, -1)
        film(noisy, t, images=torch.ones(2, 4, dtype=torch.bool)).square().sum().backward()
        added = {id(p) for p in film.temporal_parameters()}
        for name, weight in film.named_parameters():
            taught = weight.grad is not None and bool(weight.grad.any())
            assert taught != (id(weight) in added), name

    @alphas
    def test_a_clip_trains_what_images_beside_it_do_not(self, time: TimeConfig) -> None:
        """Gradients of the temporal layers in a joint batch are those of its clip."""
        film, noisy, t = model(time), random(1, 3, 5, 4, 4), times(5)
        added = film.temporal_parameters()
        joint = torch.autograd.grad(film(noisy, t, images=MIXED).square().sum(), added)
        clip = ~MIXED[0]
        alone = torch.autograd.grad(film(noisy[:, :, clip], t[:, clip]).square().sum(), added)
        for one, other in zip(joint, alone, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)

    def test_merges_by_hand(self) -> None:
        merge, x, update = Merge(), random(1, 2, 3, 4), random(1, 2, 3, 4, seed=1)
        share = 1 - torch.sigmoid(torch.tensor(0.5))
        torch.testing.assert_close(merge(x, update), x + share * update, rtol=1e-6, atol=1e-6)


class TestParts:
    def test_norm_is_that_of_torch_over_pixels_and_frames(self) -> None:
        norm, x = TimeNorm(2, 6).double(), random(1, 5, 4, 6)
        stirred(norm)
        plain = F.group_norm(x.movedim(3, 1), 2, norm.weight, norm.bias, norm.eps).movedim(1, 3)
        torch.testing.assert_close(norm(x), plain, rtol=0, atol=1e-12)
        torch.testing.assert_close(norm(x, silu=True), F.silu(plain), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("clip", [0, 3, 5])
    @pytest.mark.parametrize("mapped", [each_film, each_clip])
    def test_layers_are_given_films_of_the_clip_and_of_each_image(self, mapped: Any, clip: int) -> None:
        """Told the time and the words of each: here a layer that adds all that it is told."""

        def layer(x: Tensor, scene: Scene) -> Tensor:
            assert scene.words is not None and x.shape[1] == scene.frames.count and not scene.frames.images
            said = scene.words.rows.unflatten(0, (len(x), -1)).sum(dim=(2, 3))
            return x.sum(dim=1, keepdim=True) + (scene.time.sum(-1) + said)[:, :, None, None].expand(x.shape)

        x, time = random(2, 5, 3, 4), random(2, 5, 1, seed=1)
        each, one = Words(random(10, 1, 1, seed=2)), Words(random(2, 1, 1, seed=3))
        for words in (each, one):
            told = words.rows.view(2, -1).expand(-1, 5)
            own = (time.squeeze(-1) + told)[:, :, None, None] + x
            together = own - x + x[:, :clip].sum(dim=1, keepdim=True)
            images = own if mapped is each_film else x
            wanted = torch.cat([together[:, :clip], images[:, clip:]], dim=1)
            made = mapped(layer, x, Scene.of(Frames(5, clip), time, words))
            torch.testing.assert_close(made, wanted, rtol=0, atol=1e-12)

    def test_attention_of_one_frame_is_its_value(self) -> None:
        """As among many that may not look at each other."""
        block, x = attention("none").attention, random(2, 4, 3, 8)
        apart = torch.full((4, 4), -torch.inf).fill_diagonal_(0.0).double()
        alone = torch.cat([block(x[:, k : k + 1]) for k in range(4)], dim=1)
        torch.testing.assert_close(alone, block(x, bias=apart[None, None]), rtol=0, atol=1e-12)

    def test_convolution_is_that_of_torch(self) -> None:
        conv, x = FrameConv(6).double(), random(2, 5, 4, 6)
        volume = F.conv3d(
            x.movedim(3, 1).unsqueeze(-1), conv.weight[..., None, None], conv.bias, padding=(1, 0, 0)
        )
        torch.testing.assert_close(conv(x), volume.squeeze(-1).movedim(1, 3), rtol=0, atol=1e-12)

    def test_a_still_film_under_replicated_frames_stays_still(self) -> None:
        """Zeros before and after the film darken its ends (I25); a film padded with its own ends does not."""
        conv, still = FrameConv(6).double(), random(1, 1, 4, 6).expand(-1, 7, -1, -1)
        out = conv(still)
        assert torch.allclose(out[:, 1:-1], out[:, 1:2].expand(-1, 5, -1, -1), atol=1e-12)
        assert not torch.allclose(out[:, 0], out[:, 1], atol=1e-3)

    @pytest.mark.parametrize("positions", ["none", "relative", "rotary"])
    def test_order_counts_only_where_there_are_positions(self, positions: Positions) -> None:
        block, x = attention(positions), random(1, 6, 4, 8)
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        scene = Scene(Frames(6), torch.zeros(1, 1, 4))
        same = torch.allclose(block(x[:, order], scene), block(x, scene)[:, order], atol=1e-9)
        assert same == (positions == "none")

    def test_rotary_positions_only_know_differences(self) -> None:
        """From whatever frame on it is counted, attention is the same (fp32: the turn is)."""
        block, x = attention("rotary").attention, random(1, 6, 4, 8).float()
        block = block.float()
        first, later = (block(x, rope=frame_rope(6, block.head_dim, first=k)) for k in (0, 9))
        torch.testing.assert_close(first, later, rtol=1e-4, atol=1e-5)

    def test_relative_positions_only_know_differences(self) -> None:
        bias = attention("relative")._bias(random(1, 6, 4, 8))
        assert bias is not None and bias.shape == (1, 4 * 2, 6, 6)
        assert torch.equal(bias[..., :-1, :-1], bias[..., 1:, 1:])
        assert not torch.equal(bias, bias.transpose(2, 3))


def attention(positions: Positions) -> TimeBlock:
    torch.manual_seed(0)
    block = TimeBlock(8, heads=2, config=TimeConfig(positions=positions), text_dim=None)
    stirred(block)
    return block.double()
