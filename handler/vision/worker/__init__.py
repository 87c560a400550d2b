"""What a worker is given: settings, processors, and files as they were packed."""
