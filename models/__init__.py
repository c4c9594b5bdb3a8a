"""From logged impressions to a calibrated probability: logs, encoding, learners, evaluation, export, registry, plans.

May import `feature_store`, never `service`. Trainers and their libraries are imported only by the commands that train;
what serves needs `encoder.py`, `pairs.py`, `registry/` and `plans/` alone.
"""
