"""Teachers of a distillation by name: what a name means, and the network that it stands for."""
