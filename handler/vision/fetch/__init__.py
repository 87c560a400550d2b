"""Images by URL."""
