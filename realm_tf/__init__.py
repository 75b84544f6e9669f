"""REALM: retrieval-augmented language-model pre-training on TensorFlow 2 and Keras 3.

Guu et al. 2020, https://arxiv.org/abs/2002.08909. Verbs run (`python -m realm_tf.<verb>`), nouns are imported.
"""

__version__ = "0.1.0"
