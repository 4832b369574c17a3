"""What is trained and tested: each task owns its data, network, loss, metric and pictures."""
