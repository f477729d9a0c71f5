"""What the three MySQL drivers share: options, error numbers, the observed connection."""
