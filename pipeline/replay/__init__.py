"""The same stages over files or recorded topics, in one process, without a broker."""
