"""The phantom breast: outline, anatomy, tissue, background, noise."""
