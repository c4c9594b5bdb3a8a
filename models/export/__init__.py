"""Trained models as ONNX graphs that answer as their trainer did, and the proof of it."""
