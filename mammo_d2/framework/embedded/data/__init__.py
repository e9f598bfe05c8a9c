"""The embedded engine's catalogs, COCO reader, samplers and loaders."""
