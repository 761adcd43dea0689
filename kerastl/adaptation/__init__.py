"""Learn when the pictures change: what trains at two hospitals, and how to choose what it made without target labels."""
