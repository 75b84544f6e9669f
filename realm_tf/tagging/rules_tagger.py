"""Names by capital letters."""

from realm_tf.tagging.tagger import Tagger
from realm_tf.text import name_rules


class RulesTagger(Tagger):
    """Runs of capitalised words are names; they have no types. See `realm_tf.text.name_rules`."""

    name = "rules"

    def find_names(self, texts):
        return [[(*span, None) for span in name_rules.find_names(text)] for text in texts]
