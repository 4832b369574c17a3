"""The methods in trainers that others keep: a callback each, over `filtersmith.compose`."""
