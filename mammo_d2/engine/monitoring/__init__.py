"""What can be watched while a model trains: pictures of validation images, experiment trackers."""
