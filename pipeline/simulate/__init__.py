"""A seed becomes a believable log of a bank, with the truth beside it."""
