"""Acting on somebody's optimizer: holding slices across a step, clearing what it remembers."""
