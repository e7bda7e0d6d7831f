"""Can a model learn from late, weighted, missing labels and still be explained, written down and signed? Yes: the learners.

Features and a label go in; a probability with signed contributions comes out. Only this package imports River. Reading order: schema
(columns), prediction (the protocols), linear, tree and forest, anomaly, blend, then snapshot, examples, measures, and what
watches decisions: drift, drift_days, drift_watch.
"""
