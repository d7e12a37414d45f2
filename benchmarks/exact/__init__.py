"""Experiments whose answer is known exactly: Gaussian films, for which the best denoiser is linear, so that
what is measured is the algorithm and no network's error. Run all of them: `python -m benchmarks.exact`."""
