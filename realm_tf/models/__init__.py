"""Keras models and losses, in `keras.ops` only: the same mathematics runs on every Keras backend.

Shape key of the project: B batch, K candidates, Q query length, L block length, J joint length, M masks, S spans,
D embedding, H hidden, V vocabulary, N blocks.
"""
