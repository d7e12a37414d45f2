"""U-Net folders: whatever their layout, one way to read them and one to write them.

    UNet2DConditionModel                Stable Diffusion's image models           (sd_unet)
    UNet3DConditionModel                ModelScope's text-to-video model          (modelscope_unet)
    UNetSpatioTemporalConditionModel    Stable Video Diffusion                    (svd_unet)
    MutoscopeUNet                       every other U-Net of this house: VDM's, and Align Your Latents'

A network is written in the first layout that can say all of its config, so image models trained here open in
diffusers, and nothing is lost.
"""

from pathlib import Path

import torch

from mutoscope.checkpoints import modelscope_unet, sd_unet, svd_unet
from mutoscope.checkpoints.card import CONFIG, Card, read_json, settings_from
from mutoscope.models.unet import UNet
from mutoscope.models.unet_config import UNetConfig
from mutoscope.video import Refusal

CLASS_NAME = "MutoscopeUNet"

CARD = Card(
    class_name=CLASS_NAME,
    build=UNet,
    to_public=str,
    to_ours=str,
    write_config=lambda config: {"_class_name": CLASS_NAME, **config.model_dump(mode="json")},
    read_config=lambda config: settings_from(UNetConfig, config),
)


def card_for(config: UNetConfig) -> Card[UNet]:
    """The first layout from which the same config is read again."""
    for card in (sd_unet.card_of(config), modelscope_unet.CARD, svd_unet.CARD):
        try:
            if card.read_config(card.write_config(config)) == config:
                return card
        except ValueError:  # the layout has no word for it, or no such network
            continue
    return CARD


def save(unet: UNet, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a U-Net, in a public layout where there is one for it. See `Card.save`."""
    card_for(unet.config).save(unet, folder, dtype=dtype)


def load(folder: str | Path) -> UNet:
    """The U-Net of a folder in any of the four layouts. See `Card.load`."""
    loads = {
        sd_unet.CLASS_NAME: sd_unet.load,
        modelscope_unet.CLASS_NAME: modelscope_unet.load,
        svd_unet.CLASS_NAME: svd_unet.load,
        CLASS_NAME: CARD.load,
    }
    path = Path(folder) / CONFIG
    name = read_json(path).get("_class_name")
    if name not in loads:
        raise Refusal(f"{path}: the class is {name!r}; U-Nets are {', '.join(loads)}")
    return loads[name](folder)
