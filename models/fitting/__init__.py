"""What learners and training stand on: columns made learnable, rows thinned out, scores made true.

Nothing here chooses or trains a whole model; that is `models/trainers/` and `models/training.py`.
"""
