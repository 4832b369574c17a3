"""Which filters may go, the sub-network without them, and how they come back."""
