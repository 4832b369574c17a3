"""What comes from the papers: recipes."""
