"""Bytes to values and back, the same for replay and live."""
