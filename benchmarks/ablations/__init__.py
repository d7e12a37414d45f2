"""The ablations of the U-Net papers in small: Video Diffusion Models, Align Your Latents and LVDM.

    python -m benchmarks.ablations A1|A2|... [--seeds 3] [--scale toy|cpu|gpu]

One module a row, of the kind of `benchmarks.trained`, on the same films of one bouncing disc whose state can
be read from the pixels; every row has the arm of equal compute that the papers left out. What is trained is
the library's own: `UNetTask`, `AutoencoderTask` and `DecoderTask` by `training.loop.train`. Trainings lie in
runs/ablations/ and are shared between rows and gone on with, so a row that was stopped loses little.
"""
