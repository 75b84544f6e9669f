"""Loops, optimizer, checkpoints, and the trainer's half of the refresh."""
