"""What can be measured of a network: pure functions that leave it as it was."""
