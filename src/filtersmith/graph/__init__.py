"""What torch.fx tells of a network."""
