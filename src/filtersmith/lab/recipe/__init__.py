"""What to train on what and how."""
