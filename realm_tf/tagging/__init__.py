"""Taggers find the salient spans of sentences: rules, a BERT tagger of our own, spaCy; and how they are measured."""
