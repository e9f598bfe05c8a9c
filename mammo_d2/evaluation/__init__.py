"""Model outputs and ground truth to numbers.

``metrics`` computes them with numpy, without torch and without the framework. ``files`` reads and writes results,
``study`` compares result files, and ``evaluators`` are what a trainer runs; they alone import the framework.
"""
