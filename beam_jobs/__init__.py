"""One Beam pipeline a file: split_blocks, mark_salient_spans, convert_questions, embed_blocks."""
