"""Metrics of weak localisation: saliency maps, best regions."""
