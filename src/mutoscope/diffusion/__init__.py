"""The mathematics of diffusion over space and time; it knows no pixels, words or networks.

noise -> denoiser (what a network predicts, on which schedule) -> guidance -> sampler (which walks a plan of
levels) -> clean; and the objective that a network is trained on.

Every file is also a command that draws what it does, `python -m mutoscope.diffusion.schedule`: the room
`drawings` has what draws, beside the mathematics and not part of it.
"""
