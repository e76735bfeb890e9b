"""The manifest's rows, and batches made of them."""
