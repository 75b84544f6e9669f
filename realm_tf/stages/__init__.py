"""What makes and changes whole runs."""
