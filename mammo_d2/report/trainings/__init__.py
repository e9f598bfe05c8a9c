"""The course of trainings: the curves of one, and those of several on one page."""
