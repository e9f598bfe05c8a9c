"""Preparing a data set in parts, and the merge of the parts."""
