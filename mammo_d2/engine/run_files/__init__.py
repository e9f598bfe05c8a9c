"""What a run leaves on disk: its folder, the record of config and data, its results."""
