"""Videos in, numbers out: fidelity, Fréchet distance, and whether a clip shows what was asked."""
