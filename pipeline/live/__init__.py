"""Faust workers on Apache Kafka: carry bytes to the fold and away, with nothing lost."""
