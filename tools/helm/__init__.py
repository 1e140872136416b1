"""The chart as Helm renders it, and the renderings that are kept to be read in a review."""
