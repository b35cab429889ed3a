"""Shards → model → scores: the trainer's side of the contract in `schemas`."""
