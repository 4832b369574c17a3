"""One run: in memory, in its folder."""
