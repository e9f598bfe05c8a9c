"""The files of a prepared data set besides its images: annotations, error table, manifest, contact sheet."""
