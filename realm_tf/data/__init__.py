"""Documents, blocks, salient spans, questions: from files to batches. The only place that spells feature names."""
