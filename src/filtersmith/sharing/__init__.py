"""Kernels that several layers share."""
