"""realm-mini, second edition: a retriever and a reader from all-MiniLM-L6-v2 and open question sets."""
