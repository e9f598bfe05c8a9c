"""The embedded engine's layers and backbones."""
