"""The commands of ``offhook``. Each imports what it needs when it runs, so that the others start quickly."""
