"""MIPS over block embeddings: indexes, embedding of the corpus, candidates. Returns block rows, never gradients.

`models` and `retrieval` never import each other; verbs join them by passing functions.
"""
