"""Weights at rest: our own run checkpoints, and public model folders read and written by card."""
