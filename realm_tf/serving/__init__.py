"""From questions to answers with their sources."""
