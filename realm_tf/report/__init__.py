"""The outcome of a run: a table on the terminal and a page that reads offline."""
