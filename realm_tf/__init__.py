"""REALM: retrieval-augmented language-model pre-training on TensorFlow 2 and Keras 3.

Guu et al. 2020, https://arxiv.org/abs/2002.08909. Verbs run (`python -m realm_tf.<verb>`), nouns are imported: those of
`__all__`, which docs/api.md shows at work, each loaded when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "BlockStore",
    "Config",
    "ExactIndex",
    "OpenDomainQA",
    "Passage",
    "Retriever",
    "UserError",
    "load_config",
]

if TYPE_CHECKING:
    from realm_tf.config import Config
    from realm_tf.config import load as load_config
    from realm_tf.data.blocks import BlockStore
    from realm_tf.errors import UserError
    from realm_tf.open_domain_qa import Answer, OpenDomainQA, Passage
    from realm_tf.retrieval.exact_index import ExactIndex
    from realm_tf.text_retriever import Retriever

# {name: (module, its name there)}. TensorFlow, which most of them need, takes seconds to import.
_WHERE = {
    "Answer": ("realm_tf.open_domain_qa", "Answer"),
    "BlockStore": ("realm_tf.data.blocks", "BlockStore"),
    "Config": ("realm_tf.config", "Config"),
    "ExactIndex": ("realm_tf.retrieval.exact_index", "ExactIndex"),
    "OpenDomainQA": ("realm_tf.open_domain_qa", "OpenDomainQA"),
    "Passage": ("realm_tf.open_domain_qa", "Passage"),
    "Retriever": ("realm_tf.text_retriever", "Retriever"),
    "UserError": ("realm_tf.errors", "UserError"),
    "load_config": ("realm_tf.config", "load"),
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    value = globals()[name] = getattr(importlib.import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
