"""Text on its way to tensors: tokens with character offsets, sentences, salient spans, packing, masking."""
