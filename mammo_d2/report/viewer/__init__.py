"""The viewer of a report: its data, its images, its script and style."""
