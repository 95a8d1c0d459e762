"""What the lessons' exercises check."""
