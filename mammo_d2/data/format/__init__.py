"""The COCO-based data format: reading, checking, writing, registering."""
