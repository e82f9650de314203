"""Metrics, one per module."""
