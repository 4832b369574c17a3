"""The papers' tables as commands: what is run for each row, what was measured, and what that says."""
