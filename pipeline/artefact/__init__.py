"""What is built: weights, the archive, a version and its signature. Local files only."""
