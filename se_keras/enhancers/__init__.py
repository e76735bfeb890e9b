"""What stands around a network: one family a file, from waves to waves and from spectra to spectra."""
