"""Losses: one term a file."""
