"""A finished run as a folder for the Hugging Face hub: weights, what they are of, and a model card."""
