"""Experiments that need training: what papers claim of noise, times and guidance, on films of a moving disc.

    python -m benchmarks.trained priors|rollout|brightness|shifts|guidance [--seeds 3] [--scale cpu|gpu]

Networks are small and trained from nothing, a minute an arm or less; what a film shows can be measured from
its pixels, so that results are in colours, pixels and counts. Arms share seeds: the same first weights, films
and white noise. A row keeps what is done after every arm and goes on from there.
"""
